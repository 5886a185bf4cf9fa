"""The rows of agreement with the prompt: one judge for real, reconstructed and generated images, and the floor."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.evaluate.agreement import agreements
from core.types import Batch, Record

NUM, FINDINGS = 120, ("effusion", "nodule")


class FakeSubjects:
    """Images are their labels plus noise, and the judge reads them as they are; ``fidelity`` of what is generated."""

    def __init__(self, fidelity):
        draw = np.random.default_rng(0)
        self.truth = draw.integers(0, 2, (NUM, 2)).astype(float)
        noise = draw.normal(size=(3, NUM, 2))
        self.images = {"real": 3 * self.truth + noise[0], "reconstructed": 2 * self.truth + noise[1]}
        self.images["generated"] = fidelity * self.truth + noise[2]
        self.centre, self.grids, self.findings, self.seed = "told", ("picture",), FINDINGS, 0
        self.run = SimpleNamespace(prompt_sources=lambda name: ("told",))
        self.asked = []
        self.hold(self.truth)

    def hold(self, truth):
        """Test and validation studies of these labels."""
        self.truth = truth
        records = [Record(patient=str(index), study=str(index)) for index in range(len(truth))]
        self.studies = SimpleNamespace(records=records, having=lambda *names: list(range(len(truth))))
        self.course = SimpleNamespace(cohort=SimpleNamespace(held_out=self.studies))

    def enough(self, *names):
        return list(range(len(self.truth)))

    def judged(self, name):
        return True

    def labels(self, studies, places):
        return self.truth[list(places)]

    def patients(self, places):
        return list(places)

    def data(self, name, places, studies=None):
        return torch.from_numpy(self.images["real"][list(places)])

    def scores(self, name, data):
        return data.numpy()

    def reconstructed(self, name, places):
        return [Batch(modality=name, data=torch.from_numpy(self.images["reconstructed"]))]

    def generated(self, outputs, places, **settings):
        self.asked.append(settings)
        return {name: [Batch(modality=name, data=torch.from_numpy(self.images["generated"]))] for name in outputs}


@pytest.mark.parametrize(("fidelity", "low", "high"), [(2.0, 0.85, 1.15), (0.0, -0.25, 0.25)])
def test_rows_and_share_of_the_ceiling(fidelity, low, high):
    subjects = FakeSubjects(fidelity)
    lines = {line.what: line for line in agreements(subjects)}
    means = {
        way: lines[f"picture: findings, mean AUROC, {way}"].value for way in ("real", "reconstructed", "generated")
    }
    assert means["real"] > means["reconstructed"] > 0.8
    floor = lines["picture: findings, mean AUROC, another patient's prompt"]
    assert floor.low < 0.5 < floor.high
    ratio = lines["picture: agreement with told, share of the ceiling"]
    assert low < ratio.value < high
    assert ratio.low < ratio.value < ratio.high
    assert subjects.asked == [{"prompts": ["told"], "couple": False, "title": "told to picture"}]
    assert lines["picture: found by its labels through the judge, R@5"].value > 5 / NUM


def test_no_share_of_a_ceiling_that_is_chance():
    subjects = FakeSubjects(1.0)
    subjects.images["reconstructed"] = subjects.images["reconstructed"] - 2.3 * subjects.truth
    assert "picture: agreement with told, share of the ceiling" not in {line.what for line in agreements(subjects)}


def test_nothing_readable_nothing_generated():
    subjects = FakeSubjects(1.0)
    subjects.images["real"] = np.random.default_rng(2).normal(size=(NUM, 2))
    lines = [line.what for line in agreements(subjects)]
    assert lines == ["picture: found by its labels through the judge, R@5"]
    assert subjects.asked == []


def columns(*findings):
    """Scores ``sample finding`` from those of single findings."""
    return np.array(findings, dtype=float).T


def test_by_finding_and_only_those_that_the_judge_reads():
    """Three studies have a finding and three have not: an AUROC is the share of nine pairs that are in order."""
    subjects = FakeSubjects(1.0)
    subjects.findings = ("effusion", "heart", "nodule", "fracture")
    subjects.hold(columns([1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]))
    held_out = SimpleNamespace(having=lambda *names: list(range(6)))
    subjects.course.cohort.held_out = held_out
    # On validation studies `nodule` is read no better than chance, and all others rightly; `fracture` too.
    validation = columns([9, 8, 7, 3, 2, 1], [1, 9, 2, 8, 3, 7], [9, 1, 5, 9, 1, 5], [9, 8, 7, 3, 2, 1])
    test = subjects.data
    subjects.data = lambda name, places, studies=None: (
        torch.from_numpy(validation[list(places)]) if studies is held_out else test(name, places)
    )
    labels = subjects.labels
    known = columns([1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0])
    subjects.labels = lambda studies, places: known[list(places)] if studies is held_out else labels(studies, places)
    order = [9, 8, 7, 6, 5, 4]
    subjects.images = {
        "real": columns([9, 8, 7, 3, 2, 1], [3, 9, 2, 8, 7, 6], order, order),  # 9 of 9, 8 of 9 (6 lies below 7)
        "reconstructed": columns([9, 8, 3, 7, 2, 1], [1, 9, 2, 8, 3, 7], order, order),  # 8, 9
        "generated": columns([9, 2, 3, 7, 8, 1], [4, 1, 2, 9, 3, 5], order, order),  # 3 + 1 + 1, 0 + 3 + 3
    }
    beside = {line.what: line.beside for line in agreements(subjects)}
    found = {way: beside[f"picture: findings, mean AUROC, {way}"] for way in ("real", "reconstructed", "generated")}
    assert found == {
        "real": "effusion 1.00, heart 0.89",
        "reconstructed": "effusion 0.89, heart 1.00",
        "generated": "effusion 0.56, heart 0.67",
    }
    # Each has the score of the study before: 1, 9, 2 over 3, 7, 8, and 4, 2, 3 over 5, 1, 9.
    assert beside["picture: findings, mean AUROC, another patient's prompt"] == "effusion 0.33, heart 0.33"
    assert beside["picture: agreement with told, share of the ceiling"] == ""


def test_means_are_of_the_findings_that_are_told():
    subjects = FakeSubjects(1.0)
    subjects.images["real"][:, 1] = np.random.default_rng(2).normal(size=NUM)
    for line in agreements(subjects):
        if ", mean AUROC, " in line.what:
            assert line.beside == f"effusion {line.value:.2f}"
