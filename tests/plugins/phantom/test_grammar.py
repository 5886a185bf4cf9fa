"""The report grammar and its reader."""

import numpy as np
import pytest

from plugins.phantom.anatomy.findings import FINDINGS, Finding, draw_findings
from plugins.phantom.report.grammar import write_report
from plugins.phantom.report.phrases import ABSENT, GRADES_OF, PRESENT
from plugins.phantom.report.reading import read_details, read_report
from plugins.phantom.reports import draw_reports


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(1)
    findings = [draw_findings(rng) for _ in range(3000)]
    return [(patient, write_report(patient, rng)) for patient in findings]


def test_every_finding_is_read_back_with_side_grade_and_zone(drawn):
    for findings, report in drawn:
        stated = {name: statement for name, statement in read_report(report).items() if statement.present}
        wanted = {finding.name: (finding.side, finding.grade, finding.zone) for finding in findings}
        assert {name: (its.side, its.grade, its.zone) for name, its in stated.items()} == wanted, report


def test_details_are_sides_and_the_grades_that_a_finding_reaches():
    report = "Moderate left pleural effusion. Severe bilateral consolidation. Mild pulmonary edema. No pneumothorax."
    assert read_details(report) == {
        "pleural_effusion/left": 1, "pleural_effusion/right": 0,
        "pleural_effusion/moderate": 1, "pleural_effusion/severe": 0,
        "consolidation/left": 1, "consolidation/right": 1, "consolidation/moderate": 1, "consolidation/severe": 1,
        "edema/moderate": 0, "edema/severe": 0,
    }  # fmt: skip
    assert read_details("There is a pneumothorax.") == {}


def test_what_is_denied_is_absent(drawn):
    denied = [
        (item, findings) for findings, report in drawn for item in read_report(report).items() if not item[1].present
    ]
    assert len(denied) > 2000
    assert all(name not in {finding.name for finding in findings} for (name, _), findings in denied)


def test_reports_differ_and_stay_short(drawn):
    reports = [report for _, report in drawn]
    assert len(set(reports)) > 2800
    assert np.percentile([len(report) for report in reports], 95) < 256


def test_doubt_is_stated_on_some_mild_findings_only():
    doubts = dict.fromkeys(("mild", "severe"), 0)
    for grade, severity in (("mild", 0.1), ("severe", 0.9)):
        for seed in range(300):
            report = write_report((Finding("edema", severity, "bilateral"),), np.random.default_rng(seed))
            doubts[grade] += read_report(report)["edema"].doubtful
    assert doubts["severe"] == 0
    assert 15 < doubts["mild"] < 150


def test_every_finding_has_its_words():
    assert set(PRESENT) == set(ABSENT) == set(GRADES_OF) == set(FINDINGS)


def test_the_corpus_holds_no_excluded_report():
    first = draw_reports(0, 50, set())
    excluded = set(first[:10])
    assert not excluded & set(draw_reports(0, 50, excluded))
    assert draw_reports(0, 50, set()) == first
