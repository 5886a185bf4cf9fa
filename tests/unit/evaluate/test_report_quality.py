"""Known sentences, contradictions and repeated words, in planted texts and in reports of the phantom's grammar."""

from types import SimpleNamespace

import numpy as np
import pytest

from core.evaluate.report_quality import (
    contradicts_itself,
    known_share,
    repeated_share,
    report_quality_rows,
    sentences,
)
from core.types import Record
from plugins.phantom.datasets import details_of, findings_of

READ = [findings_of, details_of]


def test_sentences_are_normalised():
    assert sentences("FINDINGS:  No  effusion.\nThe lungs are clear. ") == [
        "findings: no effusion",
        "the lungs are clear",
    ]
    assert sentences(" . \n") == []
    assert sentences("A nodule of 2.5 cm.") == ["a nodule of 2.5 cm"]


def test_shares_in_closed_form():
    known = set(sentences("No effusion. The heart is normal."))
    assert known_share("no effusion. the heart is normal.", known) == 1.0
    assert known_share("No effusion. The heart heart.", known) == 0.5
    assert known_share("", known) == 0.0
    assert repeated_share("right right right effusion") == pytest.approx(2 / 3)
    assert repeated_share("left, Left.") == 1.0
    assert repeated_share("effusion") == repeated_share("no left effusion") == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Small left pleural effusion. No pneumothorax.", 0.0),
        ("Small left pleural effusion. No pleural effusion.", 1.0),
        ("Small left pleural effusion. Small right pleural effusion.", 1.0),
        ("Small left pleural effusion. Right pneumothorax.", 0.0),
        ("", 0.0),
    ],
)
def test_a_text_contradicts_itself_between_sentences(text, expected):
    assert contradicts_itself(text, READ) == expected


def test_without_an_extractor_nothing_is_known():
    assert np.isnan(contradicts_itself("No effusion. An effusion.", []))


def test_reports_of_the_grammar_do_not_contradict_themselves():
    from plugins.phantom.anatomy.findings import draw_findings
    from plugins.phantom.report.grammar import write_report

    draws = np.random.default_rng(0)
    reports = [write_report(draw_findings(draws), draws) for _ in range(200)]
    assert sum(contradicts_itself(report, READ) for report in reports) == 0


class FakeTestSet:
    """Real texts are copies of training texts; generated ones are what the test gives."""

    def __init__(self, real, generated):
        num = len(real)
        self.generated_texts, self.grids, self.seed = generated, ("picture",), 0
        self.run = SimpleNamespace(
            outputs=("report", "picture"),
            parts=lambda name: SimpleNamespace(data=SimpleNamespace(kind="tokens" if name == "report" else "grid")),
            prompt_sources=lambda name: ("picture",),
        )
        records = [Record(patient=str(row), study=str(row), dataset="phantom") for row in range(num)]
        self.studies = SimpleNamespace(records=records, batch=lambda name, indices: list(real))
        whole = SimpleNamespace(indices_with=lambda name: list(range(num)), text=lambda name, index: real[index])
        self.cohort = SimpleNamespace(
            whole=whole, findings_of={"phantom": findings_of}, details_of={"phantom": details_of}
        )

    def comparable_indices(self, *names):
        assert names == ("picture", "report")
        return list(range(len(self.studies.records)))

    def patients(self, indices):
        return list(indices)

    def reconstructed(self, name, indices):
        return [self.studies.batch(name, indices)]

    def generated(self, outputs, indices, **settings):
        assert settings == {"prompts": ["picture"], "couple": False, "title": "picture to report"}
        return {"report": [list(self.generated_texts)]}

    def texts(self, name, batches):
        return [text for batch in batches for text in batch]


def test_copies_are_known_and_broken_texts_are_not():
    real = ["Small left pleural effusion. No pneumothorax.", "The heart is enlarged. No pneumothorax."] * 10
    broken = ["Small left left effusion pleural. No pneumothorax. Left pneumothorax.", real[1]] * 10
    found = {row.what: row.value for row in report_quality_rows(FakeTestSet(real, broken))}
    start = "report from picture: "
    assert [found[f"{start}{what}, real"] for what in ("known sentences", "contradictions", "repeated words")] == [
        1,
        0,
        0,
    ]
    assert found[f"{start}known sentences, generated"] == pytest.approx((1 / 3 + 1) / 2)
    assert found[f"{start}contradictions, generated"] == 0.5
    assert found[f"{start}repeated words, generated"] == pytest.approx(1 / 8 / 2)
    assert found[f"{start}known sentences, reconstructed"] == 1.0
