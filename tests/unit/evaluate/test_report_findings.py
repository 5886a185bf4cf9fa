"""The rows of findings in generated texts: an extractor of letters, known labels, the lower bound of mismatched patients."""

from types import SimpleNamespace

import numpy as np
import pytest

from core.evaluate.report_findings import report_finding_rows
from core.types import Record

NUM, FINDINGS = 200, ("effusion", "nodule", "no_finding")
LETTERS = {"e": "effusion", "n": "nodule"}


class FakeTestSet:
    """Texts are the first letters of their findings in capitals where present; a share of generated ones is garbled."""

    def __init__(self, garbled=0.0, extractor=True):
        draw = np.random.default_rng(0)
        self.truth = draw.integers(0, 2, (NUM, 3)).astype(float)
        self.garbled, self.draw, self.extractor = garbled, draw, extractor
        self.findings, self.grids, self.seed, self.classified = FINDINGS, ("picture",), 0, False
        self.run = SimpleNamespace(
            outputs=("report", "picture"),
            parts=lambda name: SimpleNamespace(data=SimpleNamespace(kind="tokens" if name == "report" else "grid")),
            prompt_sources=lambda name: ("picture", "other"),
        )
        self.studies = SimpleNamespace(
            records=[Record(patient=str(index), study=str(index)) for index in range(NUM)],
            batch=lambda name, indices: self.written(indices),
        )

    def written(self, indices):
        letters = [(("E" if row[0] else "e") + ("N" if row[1] else "n")) for row in self.truth]
        return [letters[index] for index in indices]

    def can_classify(self, name):
        return self.classified

    def data(self, name, indices, studies=None):
        return np.array(indices)

    def scores(self, name, data):
        """Logits of a classifier that sees `effusion`, and `nodule` in no image."""
        return np.stack([self.truth[data, 0], np.zeros(len(data)), np.zeros(len(data))], 1)

    def comparable_indices(self, *names):
        return list(range(NUM))

    def labels(self, studies, indices):
        return self.truth[list(indices)]

    def patients(self, indices):
        return list(indices)

    def reconstructed(self, name, indices):
        return [self.written(indices)]

    def generated(self, outputs, indices, **settings):
        assert settings == {"prompts": ["picture"], "couple": False, "title": "picture to report"}
        texts = self.written(indices)
        return {"report": [["?" if self.draw.random() < self.garbled else text for text in texts]]}

    def texts(self, name, batches):
        return [text for batch in batches for text in batch]

    def text_findings(self, texts, indices):
        if not self.extractor:
            return [{} for _ in texts]
        return [{LETTERS[one.lower()]: int(one.isupper()) for one in text if one != "?"} for text in texts]


def rows(test_set):
    return {row.what: row for row in report_finding_rows(test_set)}


def test_true_texts_score_one_and_mismatched_ones_do_not():
    found = rows(FakeTestSet())
    start = "report from picture: report findings, micro F1, "
    assert [found[start + way].value for way in ("real", "reconstructed", "generated")] == [1.0, 1.0, 1.0]
    floor = found[start + "another patient's prompt"]
    assert 0.4 < floor.value < 0.6  # every second finding of every second text
    assert found["report from picture: texts that mention a finding, present or absent"].value == 1.0
    assert len(found) == 5  # `other` is no image


@pytest.mark.parametrize("garbled", [0.5, 1.0])
def test_garbled_texts_mention_nothing(garbled):
    found = rows(FakeTestSet(garbled))
    legible = found["report from picture: texts that mention a finding, present or absent"]
    assert legible.value == pytest.approx(1 - garbled, abs=0.1)
    score = found["report from picture: report findings, micro F1, generated"].value
    # Half of the calls are missing and none is wrong: F1 = 2 (1/2) / (1/2 + 1).
    assert score == pytest.approx({0.5: 2 / 3, 1.0: 0.0}[garbled], abs=0.08)


def test_without_an_extractor_nothing_is_generated():
    test_set = FakeTestSet(extractor=False)
    test_set.generated = None
    assert rows(test_set) == {}


def test_a_classifier_reads_the_same_images_at_thresholds_from_validation():
    test_set = FakeTestSet()
    test_set.classified = True
    test_set.cohort = SimpleNamespace(held_out=SimpleNamespace(indices_with=lambda name: list(range(100))))
    found = rows(test_set)["report from picture: report findings, micro F1, a classifier on the same images"]
    # Of `nodule` every score is alike: the threshold of best F1 lies below, and every image is a positive prediction.
    hits = test_set.truth[:, 0].sum() + test_set.truth[:, 1].sum()
    claims = test_set.truth[:, 0].sum() + NUM
    assert found.value == pytest.approx(2 * hits / (claims + hits))
    assert found.key == "findings/classifier/report+picture"
