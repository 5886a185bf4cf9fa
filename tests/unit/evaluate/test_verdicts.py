"""The head of the table: the worst row decides, references are shown and not judged, and what is missing is stated."""

import pytest

from core.evaluate.table import MetricRow
from core.evaluate.verdicts import CRITERIA, head_cells, head_text, verdicts
from core.training import report


def row(key, value):
    return MetricRow("measure", key, value, key=key)


def verdict_on(*rows, start):
    return next(verdict for verdict in verdicts(rows) if verdict.criterion.title.startswith(start))


def test_ten_questions():
    assert len(CRITERIA) == 10
    assert len(verdicts([row("outline/generated, no prompt/ct+mri", 0.98)])) == 10


def test_the_worst_row_decides_and_real_pairs_are_not_judged():
    rows = [
        row("outline/real/ct+mri", 0.9),
        row("outline/reconstructed/ct+mri", 0.1),
        row("outline/generated, prompted/ct+mri", 0.98),
        row("outline/generated, no prompt/ct+mri", 0.95),
    ]
    verdict = verdict_on(*rows, start="one body")
    assert (verdict.grade, verdict.value, verdict.reference) == ("limited", 0.95, 0.9)
    assert verdict.of == "ct+mri, generated, no prompt"
    assert verdict_on(*rows[:3], start="one body").grade == "good"
    assert verdict_on(*rows, row("outline/mri from the given ct/ct+mri", 0.5), start="one body").grade == "poor"


@pytest.mark.parametrize(
    ("value", "grade"), [(10.0, "good"), (10.1, "limited"), (20.1, "poor"), (float("nan"), "not measured")]
)
def test_a_distance_is_relative_to_the_autoencoders(value, grade):
    rows = [
        row("outline/generated/a+b", 1.0),
        row("frechet/reconstructed/ct", 2.0),
        row("frechet/generated, prompted/ct", value),
    ]
    assert verdict_on(*rows, start="realism").grade == grade


@pytest.mark.parametrize(
    ("value", "grade"), [(1.0, "good"), (1.2, "limited"), (0.69, "limited"), (0.4, "poor"), (1.4, "poor")]
)
def test_agreement_may_be_too_small_and_too_large(value, grade):
    rows = [row("agreement by detail/severe/ct", value), row("agreement by detail/severe/xray", 0.9)]
    assert verdict_on(*rows, start="side and grade").grade == grade


def test_another_patients_prompt_is_no_answer():
    rows = [row("findings/generated/report+xray", 0.5), row("findings/classifier/report+xray", 0.8)]
    floor = row("findings/another patient's prompt/report+xray", 0.1)
    verdict = verdict_on(*rows, floor, start="reports from an image")
    assert (verdict.grade, verdict.value) == ("good", 0.625)


def test_a_table_without_such_rows_has_no_head(tmp_path):
    rows = [MetricRow("align", "a to b: R@5", 0.5), row("outline/real/ct+mri", 0.9)]
    assert verdicts(rows) == []
    assert head_text(rows) == ""
    assert list(report._verdicts(rows)) == []


def test_the_text_and_the_page_begin_with_the_verdicts():
    rows = [row("contradictions/generated/report+xray", 0.02), row("contradictions/real/report+xray", 0.0)]
    lines = head_text(rows).splitlines()
    assert len(lines) == 10
    line = next(line for line in lines if "contradictions" in line)
    assert line.split()[0] == "good"
    assert "0.020" in line
    assert "good up to 0.05; worst: report+xray, generated; real 0.000" in line
    assert sum(line.startswith("not measured") for line in lines) == 9
    page = "".join(report._verdicts(rows))
    assert page.count("<tr>") == 11
    assert '<td class="good">good</td>' in page
    assert head_cells(rows)[8][0] == "good"
