"""The rows of coherence: made-up scores and vectors, whose distances, cosines and differences are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.evaluate.coherence import coherence_rows
from core.types import Batch

FINDINGS = ("effusion", "nodule")
INDICES = [6, 1, 4, 3]  # test studies, patients interleaved
COSINE, DIFFER = "no prompt: cosine", "no prompt: finding disagreement rate"
# Pooled vectors by their cosine with (1, 0).
VECTORS = {1.0: (2.0, 0.0), 0.6: (3.0, 4.0), 0.0: (0.0, 1.0), -1.0: (-1.0, 0.0)}
LABELS = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
UNREADABLE = np.array([1.0, 0.0, 1.0, 0.0])  # scores of four validation studies: AUROC 1/2
# What images show, and the shares in which they differ from one that shows nothing.
NONE, ONE, BOTH = (0, 0), (1, 0), (1, 1)


def batch(name, shown, cosine):
    """``sample column``: two findings, 1 or 0 (NaN: a text that tells of nothing), then the pooled vector."""
    rows = [(*found, *VECTORS[one]) for found, one in zip(shown, cosine, strict=True)]
    return Batch(modality=name, data=torch.tensor(rows, dtype=torch.float64))


class FakeTestSet:
    """``made``: by way and modality what is generated; ``reads``: by modality which findings its classifier recognises.

    ``held``: by modality the test studies that hold it. The classifiers' scores are 1 and 0, and the threshold is 1/2.
    """

    def __init__(self, made, pairs, *, reads=None, centre=None, outputs=("front", "side", "scan"), promptable=None):
        self.made, self.reads, self.centre, self.requests = made, reads or {}, centre, []
        self.findings, self.seed, self.indices = FINDINGS, 0, INDICES
        self.held, self.real = {}, {}
        self.grids = tuple(name for name in outputs if name != "text")
        self.run = SimpleNamespace(
            outputs=outputs,
            parts=lambda name: SimpleNamespace(data=SimpleNamespace(kind="tokens" if name == "text" else "grid")),
        )
        may = outputs if promptable is None else promptable
        self.bundle = SimpleNamespace(has_trained_prompt_encoder=lambda name: name in may, trained_pairs=tuple(pairs))
        self.studies = SimpleNamespace(
            indices_with=self.indices_with, batch=self.taken, batches=lambda *of: iter([self.taken(*of)])
        )
        self.held_out = SimpleNamespace(indices_with=lambda *names: list(range(4)))
        self.cohort = SimpleNamespace(held_out=self.held_out)

    def indices_with(self, *names):
        return sorted(set(range(8)).intersection(*(self.held.get(name, range(8)) for name in names)))

    def taken(self, name, indices):
        """Real studies, which must hold the modality."""
        assert set(indices) <= set(self.held.get(name, range(8)))
        found = [self.real.get(name, {}).get(index, 1.0) for index in indices]
        return batch(name, [NONE] * len(indices), found)

    def comparable_indices(self, *names):
        return self.indices

    def patients(self, indices):
        return [f"patient {index}" for index in indices]

    def can_classify(self, name):
        return True

    def data(self, name, indices, studies=None):
        assert studies is self.held_out
        reads = self.reads.get(name, (True, True))
        return torch.from_numpy(np.where(reads, LABELS, UNREADABLE[:, None])[indices])

    def labels(self, studies, indices):
        assert studies is self.held_out
        return LABELS[indices]

    def scores(self, name, data):
        return data.numpy()[:, :2]

    def embedded(self, name, batch):
        return batch.data[:, 2:]

    def texts(self, name, batches):
        return [row[:2].tolist() for batch in batches for row in batch.data]

    def text_findings(self, texts, indices):
        assert len(texts) == len(indices)
        return [{} if np.isnan(text).any() else dict(zip(FINDINGS, map(int, text), strict=True)) for text in texts]

    def generated(self, outputs, indices, *, prompts=(), couple=True, shuffled=False, title=""):
        way = "independent" if not couple else "shuffled partner" if shuffled else "joint"
        assert indices == self.indices
        self.requests.append((tuple(outputs), tuple(prompts), way))
        return {name: [self.made[way][name][:3], self.made[way][name][3:]] for name in outputs}  # in batches


def rows(test_set):
    found = list(coherence_rows(test_set))
    assert len({row.what for row in found}) == len(found)
    return {row.what: row for row in found}


def values(test_set, measure):
    """The rows of one measure, without its name."""
    named = {what.replace(f", {measure}", ""): one.value for what, one in rows(test_set).items() if measure in what}
    return {what: pytest.approx(value, nan_ok=True) for what, value in named.items()}


def made(**by_way):
    """``joint={"front": (shown, cosines), ...}``; `independent` and `shuffled` may be left out: as joint."""
    ways = {"joint": by_way["joint"], "independent": by_way.get("independent", by_way["joint"])}
    ways["shuffled partner"] = by_way.get("shuffled", by_way["joint"])
    return {way: {name: batch(name, *found) for name, found in one.items()} for way, one in ways.items()}


EMPTY = ([NONE] * 4, [1.0] * 4)
UNLIKE = {  # front and side differ in 1/4, 1/2 and 1 of the findings on average, side and scan in 0, 1/8 and 1/4
    "joint": {
        "front": EMPTY,
        "side": ([NONE, ONE, NONE, ONE], [1.0, 1.0, 0.6, 0.6]),
        "scan": ([NONE, ONE, NONE, ONE], [1.0, 1.0, 0.6, 0.6]),
    },
    "independent": {
        "front": EMPTY,
        "side": ([BOTH, ONE, NONE, ONE], [1.0, 0.6, 0.0, 0.0]),
        "scan": ([ONE, ONE, NONE, ONE], [1.0, 0.6, 0.0, 0.0]),
    },
    "shuffled": {
        "front": EMPTY,
        "side": ([BOTH] * 4, [-1.0, 0.0, 0.0, 1.0]),
        "scan": ([BOTH, BOTH, ONE, ONE], [-1.0, 0.0, 0.0, 1.0]),
    },
}


def test_disagreement_rates_by_way_and_their_differences():
    found = values(FakeTestSet(made(**UNLIKE), [("front", "side"), ("side", "scan")]), DIFFER)
    assert found == {
        "all coupled pairs, joint": (1 / 4 + 0) / 2,
        "all coupled pairs, independent": (1 / 2 + 1 / 8) / 2,
        "all coupled pairs, shuffled partner": (1 + 1 / 4) / 2,
        "all coupled pairs, joint minus independent": (1 / 4 - 1 / 2 + 0 - 1 / 8) / 2,
        "all coupled pairs, joint minus shuffled partner": (1 / 4 - 1 + 0 - 1 / 4) / 2,
        "front and side, joint minus independent": 1 / 4 - 1 / 2,
        "front and side, joint minus shuffled partner": 1 / 4 - 1,
        "side and scan, joint minus independent": 0 - 1 / 8,
        "side and scan, joint minus shuffled partner": 0 - 1 / 4,
    }


def test_cosines_by_way_and_their_differences():
    found = values(FakeTestSet(made(**UNLIKE), [("front", "side")]), COSINE)
    assert found == {
        "all coupled pairs, real studies": 1.0,
        "all coupled pairs, joint": 0.8,
        "all coupled pairs, independent": 0.4,
        "all coupled pairs, shuffled partner": 0.0,
        "all coupled pairs, joint minus independent": 0.4,
        "all coupled pairs, joint minus shuffled partner": 0.8,
        "front and side, joint minus independent": 0.4,
        "front and side, joint minus shuffled partner": 0.8,
    }


def test_findings_differ_only_in_pairs_both_of_whose_modalities_can_be_read():
    pairs = [("side", "scan"), ("front", "side"), ("front", "scan")]
    test_set = FakeTestSet(made(**UNLIKE), pairs, reads={"scan": (False, False)})
    found = values(test_set, DIFFER)
    assert {what.split(", ")[0] for what in found} == {"all coupled pairs", "front and side"}
    assert found["all coupled pairs, joint"] == 1 / 4  # of the pair that can be read, alone
    assert found["all coupled pairs, shuffled partner"] == 1
    seen = {what.split(", ")[0] for what in values(test_set, COSINE)}
    assert seen == {"all coupled pairs", "side and scan", "front and side", "front and scan"}


def test_findings_that_only_one_classifier_recognises_are_left_out():
    found = values(FakeTestSet(made(**UNLIKE), [("front", "side")], reads={"front": (True, False)}), DIFFER)
    assert found["all coupled pairs, joint"] == 1 / 2  # effusion in every second study
    assert found["all coupled pairs, independent"] == 3 / 4
    assert found["all coupled pairs, shuffled partner"] == 1


def test_classifiers_without_a_common_finding_have_no_rows():
    reads = {"side": (True, False), "scan": (False, True)}
    found = values(FakeTestSet(made(**UNLIKE), [("front", "side"), ("side", "scan")], reads=reads), DIFFER)
    assert {what.split(", ")[0] for what in found} == {"all coupled pairs", "front and side"}
    assert found["all coupled pairs, joint"] == 1 / 2


@pytest.mark.filterwarnings("error")
def test_no_rows_and_no_warning_where_nothing_can_be_read():
    reads = dict.fromkeys(("front", "side"), (False, False))
    lines = rows(FakeTestSet(made(**UNLIKE), [("front", "side")], reads=reads))
    assert lines
    assert all(": cosine, " in what for what in lines)


SILENT = (np.nan, np.nan)


def of_text(known, independent):
    """Text beside an image that shows nothing."""
    ways = {"joint": {**UNLIKE["joint"], "text": (known, [1.0] * 4)}}
    ways["independent"] = {**UNLIKE["independent"], "text": (independent, [1.0] * 4)}
    return made(**ways)


def test_texts_that_mention_nothing_are_left_out_one_by_one():
    test_set = FakeTestSet(
        of_text([BOTH, ONE, SILENT, NONE], [SILENT, NONE, BOTH, ONE]), [("text", "front")], outputs=("text", "front")
    )
    found = values(test_set, DIFFER)
    assert found["all coupled pairs, joint"] == (1 + 1 / 2 + 0) / 3
    assert found["all coupled pairs, independent"] == (0 + 1 + 1 / 2) / 3
    # Only the second and the last study can be read in both ways.
    assert found["text and front, joint minus independent"] == ((1 / 2 - 0) + (0 - 1 / 2)) / 2
    assert found["text and front, joint minus shuffled partner"] == 0


@pytest.mark.filterwarnings("error")
def test_a_pair_that_one_way_leaves_silent_is_compared_in_none():
    pairs, outputs = [("text", "front"), ("front", "side")], ("text", "front", "side")
    known = of_text([BOTH] * 4, [SILENT] * 4)
    found = values(FakeTestSet(known, pairs, outputs=outputs), DIFFER)
    assert {what.split(", ")[0] for what in found} == {"all coupled pairs", "front and side"}
    assert found["all coupled pairs, joint"] == 1 / 4  # as independent: of front and side
    assert found["all coupled pairs, joint minus independent"] == 1 / 4 - 1 / 2
    alone = FakeTestSet(known, pairs[:1], outputs=outputs)
    assert values(alone, DIFFER) == {}


def test_real_studies_are_those_that_hold_all_outputs():
    test_set = FakeTestSet(made(**UNLIKE), [("front", "side"), ("side", "scan")])
    test_set.held = {"front": [1, 2, 3, 6], "scan": [0, 1, 2, 3, 4]}  # all: 1, 2 and 3, of which 2 is no subject
    test_set.real = {"side": {1: 0.6, 2: -1.0, 3: 1.0}, "scan": {2: -1.0, 3: 0.0}}
    row = rows(test_set)["all coupled pairs, no prompt: cosine, real studies"]
    # Study 1: front and side 0.6, side and scan 0.6; study 3: 1 and 0.
    assert row.value == pytest.approx((0.6 + 0.6 + 1.0 + 0.0) / 4)
    assert (row.low, row.high) == (pytest.approx(0.5), pytest.approx(0.6))


@pytest.mark.filterwarnings("error")
def test_no_row_of_real_studies_where_none_holds_all():
    test_set = FakeTestSet(made(**UNLIKE), [("front", "side")])
    test_set.held = {"front": [6, 1], "scan": [4, 3]}
    lines = rows(test_set)
    assert lines
    assert not [what for what in lines if "real studies" in what]


WAYS = ("joint", "independent", "shuffled partner")


def test_with_the_prompts_of_the_centre_and_without_any():
    known = of_text([ONE] * 4, [ONE] * 4)
    outputs, pairs = ("text", "front", "side", "scan"), [("text", "front"), ("front", "side"), ("side", "scan")]
    may = ("text", "front", "side")
    test_set = FakeTestSet(known, pairs, centre="text", outputs=outputs, promptable=may)
    lines = rows(test_set)
    assert test_set.requests == [(("front", "side"), ("text",), way) for way in WAYS] + [(may, (), way) for way in WAYS]
    for measure in ("cosine", "finding disagreement rate"):
        for known, pairs in (("prompted by text", 1), ("no prompt", 2)):
            found = [what for what in lines if f"{known}: {measure}" in what and "real studies" not in what]
            assert len(found) == 3 + 2 * (1 + pairs)
        assert lines[f"all coupled pairs, prompted by text: {measure}, joint"].value != pytest.approx(
            lines[f"all coupled pairs, no prompt: {measure}, joint"].value
        )
    assert "all coupled pairs, prompted by text: cosine, real studies" in lines
    assert "all coupled pairs, no prompt: cosine, real studies" in lines


@pytest.mark.parametrize(
    ("indices", "pairs"), [([], [("front", "side")]), (INDICES, []), (INDICES, [("front", "other")])]
)
def test_nothing_to_compare_nothing_generated(indices, pairs):
    test_set = FakeTestSet(made(**UNLIKE), pairs, centre="text")
    test_set.indices = indices
    assert rows(test_set) == {}
    assert test_set.requests == []
