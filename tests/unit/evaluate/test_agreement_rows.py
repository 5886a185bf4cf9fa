"""The rows of agreement with the prompt: one classifier for real, reconstructed and generated images, and the lower bound."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.evaluate.agreement import agreement_rows, detail_labels
from core.types import Batch, Record

NUM, FINDINGS = 120, ("effusion", "nodule")


class FakeTestSet:
    """Images are their labels plus noise, and the classifier returns them unchanged; ``fidelity`` of what is generated."""

    def __init__(self, fidelity):
        draw = np.random.default_rng(0)
        self.truth = draw.integers(0, 2, (NUM, 2)).astype(float)
        noise = draw.normal(size=(3, NUM, 2))
        self.images = {"real": 3 * self.truth + noise[0], "reconstructed": 2 * self.truth + noise[1]}
        self.images["generated"] = fidelity * self.truth + noise[2]
        self.centre, self.grids, self.findings, self.seed = "report", ("picture",), FINDINGS, 0
        self.run = SimpleNamespace(prompt_sources=lambda name: ("report",))
        self.requests, self.details = [], {}
        self.hold(self.truth)

    def hold(self, truth):
        """Test and validation studies of these labels."""
        self.truth = truth
        records = [Record(patient=str(index), study=str(index)) for index in range(len(truth))]
        self.studies = SimpleNamespace(
            records=records,
            indices_with=lambda *names: list(range(len(truth))),
            batches=lambda name, indices: [list(indices)],
        )
        self.cohort = SimpleNamespace(held_out=self.studies)

    def comparable_indices(self, *names):
        return list(range(len(self.truth)))

    def can_classify(self, name):
        return True

    def labels(self, studies, indices):
        return self.truth[list(indices)]

    def patients(self, indices):
        return list(indices)

    def data(self, name, indices, studies=None):
        return torch.from_numpy(self.images["real"][list(indices)])

    def scores(self, name, data):
        return data.numpy()

    def texts(self, name, batches):
        assert name == "report"
        return [index for batch in batches for index in batch]

    def text_details(self, texts, indices):
        assert texts == list(indices)
        return [self.details.get(index, {}) for index in indices]

    def reconstructed(self, name, indices):
        return [Batch(modality=name, data=torch.from_numpy(self.images["reconstructed"]))]

    def generated(self, outputs, indices, **settings):
        self.requests.append(settings)
        return {name: [Batch(modality=name, data=torch.from_numpy(self.images["generated"]))] for name in outputs}


@pytest.mark.parametrize(("fidelity", "low", "high"), [(2.0, 0.85, 1.15), (0.0, -0.25, 0.25)])
def test_rows_and_auroc_relative_to_reconstruction(fidelity, low, high):
    test_set = FakeTestSet(fidelity)
    lines = {row.what: row for row in agreement_rows(test_set)}
    means = {
        way: lines[f"picture: findings, mean AUROC, {way}"].value for way in ("real", "reconstructed", "generated")
    }
    assert means["real"] > means["reconstructed"] > 0.8
    floor = lines["picture: findings, mean AUROC, another patient's prompt"]
    assert floor.low < 0.5 < floor.high
    ratio = lines["picture: agreement with report, AUROC relative to reconstruction"]
    assert low < ratio.value < high
    assert ratio.low < ratio.value < ratio.high
    assert test_set.requests == [{"prompts": ["report"], "couple": False, "title": "report to picture"}]
    assert lines["picture: label-based upper bound, R@5"].value > 5 / NUM


def test_nothing_is_relative_to_reconstructions_at_chance():
    test_set = FakeTestSet(1.0)
    test_set.images["reconstructed"] = test_set.images["reconstructed"] - 2.3 * test_set.truth
    assert "picture: agreement with report, AUROC relative to reconstruction" not in {
        row.what for row in agreement_rows(test_set)
    }


def test_nothing_reliable_nothing_generated():
    test_set = FakeTestSet(1.0)
    test_set.images["real"] = np.random.default_rng(2).normal(size=(NUM, 2))
    lines = [row.what for row in agreement_rows(test_set)]
    assert lines == ["picture: label-based upper bound, R@5"]
    assert test_set.requests == []


def columns(*findings):
    """Scores ``sample finding`` from those of single findings."""
    return np.array(findings, dtype=float).T


def test_by_finding_and_only_reliable_findings():
    """Three studies have a finding and three have not: an AUROC is the share of nine pairs that are in order."""
    test_set = FakeTestSet(1.0)
    test_set.findings = ("effusion", "heart", "nodule", "fracture")
    test_set.hold(columns([1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]))
    held_out = SimpleNamespace(indices_with=lambda *names: list(range(6)))
    test_set.cohort.held_out = held_out
    # On validation studies `nodule` is read no better than chance, and all others rightly; `fracture` too.
    validation = columns([9, 8, 7, 3, 2, 1], [1, 9, 2, 8, 3, 7], [9, 1, 5, 9, 1, 5], [9, 8, 7, 3, 2, 1])
    test = test_set.data
    test_set.data = lambda name, indices, studies=None: (
        torch.from_numpy(validation[list(indices)]) if studies is held_out else test(name, indices)
    )
    labels = test_set.labels
    known = columns([1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0])
    test_set.labels = lambda studies, indices: known[list(indices)] if studies is held_out else labels(studies, indices)
    order = [9, 8, 7, 6, 5, 4]
    test_set.images = {
        "real": columns([9, 8, 7, 3, 2, 1], [3, 9, 2, 8, 7, 6], order, order),  # 9 of 9, 8 of 9 (6 lies below 7)
        "reconstructed": columns([9, 8, 3, 7, 2, 1], [1, 9, 2, 8, 3, 7], order, order),  # 8, 9
        "generated": columns([9, 2, 3, 7, 8, 1], [4, 1, 2, 9, 3, 5], order, order),  # 3 + 1 + 1, 0 + 3 + 3
    }
    reference = {row.what: row.reference for row in agreement_rows(test_set)}
    found = {way: reference[f"picture: findings, mean AUROC, {way}"] for way in ("real", "reconstructed", "generated")}
    assert found == {
        "real": "effusion 1.00, heart 0.89",
        "reconstructed": "effusion 0.89, heart 1.00",
        "generated": "effusion 0.56, heart 0.67",
    }
    # Each has the score of the study before: 1, 9, 2 over 3, 7, 8, and 4, 2, 3 over 5, 1, 9.
    assert reference["picture: findings, mean AUROC, another patient's prompt"] == "effusion 0.33, heart 0.33"
    assert reference["picture: agreement with report, AUROC relative to reconstruction"] == ""


def test_means_are_of_the_findings_in_the_reference():
    test_set = FakeTestSet(1.0)
    test_set.images["real"][:, 1] = np.random.default_rng(2).normal(size=NUM)
    for row in agreement_rows(test_set):
        if ", mean AUROC, " in row.what:
            assert row.reference == f"effusion {row.value:.2f}"


def test_details_are_measured_against_studies_without_the_finding():
    """Severe effusions are generated plainly and mild ones not at all; both are plain in reconstructions."""
    test_set = FakeTestSet(2.0)
    present = np.flatnonzero(test_set.truth[:, 0])
    test_set.details = {
        index: {"effusion/severe": int(row % 2), "effusion/mild": 1 - row % 2} for row, index in enumerate(present)
    }
    mild = present[::2]
    test_set.images["generated"][mild, 0] -= 2.0
    found = {row.what: row for row in agreement_rows(test_set)}
    severe, weak = (
        found[f"picture: agreement with report, {grade}, AUROC relative to reconstruction"]
        for grade in ("severe", "mild")
    )
    assert severe.value > 0.8
    assert weak.value < 0.35
    assert severe.key == "agreement by detail/severe/picture"


def test_labels_of_a_detail_leave_out_other_presences_and_rare_details():
    labels = columns([1, 1, 1, 1, 0], [1, 1, 0, 0, 0])
    details = [{"a/left": 1, "b/left": 1}, {"a/left": 1, "b/left": 1}, {"a/left": 1}, {"a/left": 0}, {}]
    by_detail = detail_labels(details, ("a", "b"), labels, np.array([True, True]))
    assert list(by_detail) == ["left"]
    expected = columns([1, 1, 1, np.nan, 0], [np.nan] * 5)  # two of `b` are too few
    assert np.array_equal(by_detail["left"], expected, equal_nan=True)
    assert detail_labels(details, ("a", "b"), labels, np.array([False, True])) == {}


@pytest.mark.parametrize(("studies", "note"), [([], "never paired in training"), ([3], "never a prompt in training")])
def test_an_image_that_was_never_prompted_so_is_measured_and_marked(studies, note):
    test_set = FakeTestSet(2.0)
    test_set.cohort.training = SimpleNamespace(indices_with=lambda *names: studies)
    test_set.run.prompt_sources = lambda name: ("scan",)
    test_set.run.config = SimpleNamespace(prompt=SimpleNamespace(form="pooled_and_neighbour_tokens"))
    test_set.bundle = SimpleNamespace(run=test_set.run, mean_prompt=lambda name: (0.0, 1.0))
    row = {row.what: row for row in agreement_rows(test_set)}[
        f"picture: agreement with report, {note}, AUROC relative to reconstruction"
    ]
    assert row.value > 0.8
    assert row.key == f"agreement, {note}/generated/picture"
    test_set.bundle.mean_prompt = lambda name: ()  # no such prompt reaches it
    assert list(agreement_rows(test_set)) == []
