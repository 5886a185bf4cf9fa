"""Which findings texts and images show: an extractor of letters, classifiers whose scores on validation are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.config.recipe import SamplerChoice
from core.evaluate import test_set as module
from core.evaluate.test_set import TestSet, predicted_findings, reliable_on_validation
from core.types import Batch, Record

FINDINGS = ("effusion", "nodule", "heart")
KINDS = {"report": "tokens", "picture": "grid", "measured": "vector"}
LETTERS = {"e": "effusion", "n": "nodule", "h": "heart", "f": "fracture"}  # the last is no finding of this run
NOBODY = 7  # the index of a study whose data set has no extractor

# Of four validation studies. The classifier orders `effusion` and `heart` rightly and `nodule` by chance; the thresholds of
# best F1 lie half way between the last score called and the first that is not: 1.5 and 7.5.
SCORES = np.array([[3.0, 1.0, 9.0], [2.0, 0.0, 5.0], [1.0, 1.0, 6.0], [0.0, 0.0, 4.0]])
LABELS = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


class FakeTestSet:
    """Texts are the first letters of their findings, in capitals where present; the data of images are their scores."""

    def __init__(self, findings=FINDINGS):
        self.findings, self.grids, self.held = findings, ("picture",), range(4)
        self.labelled, self.requests = True, []
        self.held_out = SimpleNamespace(indices_with=lambda name: list(self.held))
        self.run = SimpleNamespace(parts=lambda name: SimpleNamespace(data=SimpleNamespace(kind=KINDS[name])))
        self.cohort = SimpleNamespace(held_out=self.held_out)

    def can_classify(self, name):
        return self.labelled

    def data(self, name, indices, studies=None):
        assert studies is self.held_out
        return torch.from_numpy(SCORES[indices])

    def labels(self, studies, indices):
        assert studies is self.held_out
        return LABELS[indices]

    def scores(self, name, data):
        self.requests.append(name)
        return data.numpy()

    def texts(self, name, batches):
        return [text for batch in batches for text in batch]

    def text_findings(self, texts, indices):
        read = [{LETTERS[one.lower()]: int(one.isupper()) for one in text} for text in texts]
        return [{} if index == NOBODY else one for one, index in zip(read, indices, strict=True)]


def images(*rows, name="picture"):
    return Batch(modality=name, data=torch.tensor(rows, dtype=torch.float64))


def test_a_text_that_mentions_one_finding_is_negative_for_the_others():
    found = predicted_findings(FakeTestSet(), "report", [["E", "n"], ["Hn", "F"]], [0, 1, 2, 3])
    assert found.dtype == np.float64
    assert np.array_equal(found, [[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_a_text_that_mentions_nothing_is_unknown():
    found = predicted_findings(FakeTestSet(), "report", [["E", "", "E"]], [0, 1, NOBODY])
    assert np.array_equal(found, [[1, 0, 0], [np.nan] * 3, [np.nan] * 3], equal_nan=True)


def test_texts_need_no_classifier():
    test_set = FakeTestSet()
    predicted_findings(test_set, "report", [["E"]], [0])
    assert test_set.requests == []


def test_images_show_what_their_classifier_recognises_at_thresholds_from_validation():
    batches = [images([1.6, 5, 7.4]), images([1.4, -5, 7.6], [1.5, 5, 7.5])]  # a score on the threshold is no call
    found = predicted_findings(FakeTestSet(), "picture", batches, [5, 6, 8])
    assert np.array_equal(found, [[1, np.nan, 0], [0, np.nan, 1], [0, np.nan, 0]], equal_nan=True)


def test_reliable_findings_are_those_of_validation():
    assert reliable_on_validation(FakeTestSet(), "picture").tolist() == [True, False, True]


@pytest.mark.parametrize("missing", ["validation", "classifier"])
def test_without_validation_or_classifier_nothing_is_known(missing):
    test_set = FakeTestSet()
    if missing == "validation":
        test_set.held = []
    else:
        test_set.labelled = False
    assert reliable_on_validation(test_set, "picture").tolist() == [False] * 3
    found = predicted_findings(test_set, "picture", [images([9, 9, 9], [0, 0, 0])], [5, 6])
    assert found.shape == (2, 3)
    assert np.isnan(found).all()
    assert test_set.requests == []


def test_where_the_classifier_recognises_nothing_nothing_is_known():
    test_set = FakeTestSet()
    test_set.labels = lambda studies, indices: np.array([[1.0] * 3, [0.0] * 3, [0.0] * 3, [1.0] * 3])
    assert np.isnan(predicted_findings(test_set, "picture", [images([9, 9, 9])], [5])).all()


def test_of_what_is_neither_text_nor_image_nothing_is_known():
    test_set = FakeTestSet()
    found = predicted_findings(test_set, "measured", [images([9, 9, 9], name="measured")], [5])
    assert found.shape == (1, 3)
    assert np.isnan(found).all()
    assert test_set.requests == []


def test_no_findings_no_columns():
    test_set = FakeTestSet(findings=())
    test_set.labelled = False  # as `TestSet.can_classify` says
    assert predicted_findings(test_set, "report", [["E", ""]], [0, 1]).shape == (2, 0)
    assert predicted_findings(test_set, "picture", [images([9, 9, 9])], [0]).shape == (1, 0)
    assert predicted_findings(FakeTestSet(), "report", [], []).shape == (0, 3)


@pytest.fixture
def sampling(monkeypatch):
    """A test set of six studies whose samples are their numbers, and the requests that were sampled."""
    requests = []

    def generate(bundle, request, sampler):
        requests.append(request)
        return {name: torch.tensor([*request.indices]).float() for name in request.graph.outputs}

    graph = SimpleNamespace
    monkeypatch.setattr(module, "conditioning_graph", lambda bundle, outputs, **_: graph(outputs=tuple(outputs)))
    monkeypatch.setattr(module, "generate_latents", generate)
    monkeypatch.setattr(module, "decoded", lambda bundle, name, latents: Batch(modality=name, data=latents))
    test_set = TestSet.__new__(TestSet)
    records = [Record(patient=str(row), study=str(row)) for row in range(6)]
    test_set.studies = SimpleNamespace(records=records, batch=lambda name, rows: list(rows))
    test_set.bundle, test_set.seed, test_set.sampler, test_set._generated = None, 3, SamplerChoice(), {}
    test_set.compute = SimpleNamespace(is_main=False)
    return test_set, requests


def test_what_was_generated_once_is_returned_again(sampling):
    test_set, requests = sampling
    first = test_set.generated(["ct"], [0, 1], prompts=["text"], title="one measure")
    assert test_set.generated(["ct"], [0, 1], prompts=["text"], title="another")["ct"] is first["ct"]
    assert len(requests) == 1
    test_set.sampler = test_set.sampler.model_copy(update={"steps": 3})
    test_set.generated(["ct"], [0, 1], prompts=["text"])
    test_set.generated(["ct"], [1, 0], prompts=["text"])
    test_set.generated(["ct"], [0, 1])
    assert len(requests) == 4


def test_seed_prompts_and_partners_are_exchanged_one_by_one(sampling):
    test_set, requests = sampling
    inputs = {"prompts": ["text"], "given": ["mri"]}
    for changed in ({}, {"draw": 2}, {"other_prompts": True}, {"shuffled": True}):
        test_set.generated(["ct"], [5, 4, 3], **inputs, **changed)
    plain, seeded, prompted, shuffled = requests
    assert [request.seed for request in requests] == [3, 5, 3, 3]
    assert plain.prompts["text"] == seeded.prompts["text"] == shuffled.prompts["text"] == [5, 4, 3]
    assert all(request.given["mri"] == [5, 4, 3] for request in requests)
    assert sorted(prompted.prompts["text"]) == [3, 4, 5]
    assert all(other != row for other, row in zip(prompted.prompts["text"], [5, 4, 3], strict=True))
    assert [request.partner_rows for request in requests[:3]] == [None] * 3
    assert sorted(shuffled.partner_rows) == [0, 1, 2]


def test_the_oldest_data_are_dropped(sampling, monkeypatch):
    test_set, requests = sampling
    monkeypatch.setattr(module, "REMEMBERED", 8)  # two numbers of four bytes
    for indices in ([0, 1], [2, 3], [2, 3], [0, 1]):
        test_set.generated(["ct"], indices)
    assert len(requests) == 3
