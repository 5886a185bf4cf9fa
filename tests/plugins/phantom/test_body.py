"""Findings grow with severity, bodies differ, streams are independent."""

import numpy as np
import pytest

from plugins.phantom.anatomy.findings import FINDINGS, NO_FINDING, draw_findings, find, labels_of
from plugins.phantom.manifest import split_of


def amount(result, name):
    tissue = "myocardium" if name == "cardiomegaly" else None
    return sum(
        float(layer.fraction.sum()) for layer in result.body.layers if layer.finding == name or layer.tissue == tissue
    )


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_grows_with_severity(study, finding, name):
    side = {"cardiomegaly": "none", "edema": "bilateral"}.get(name, "right")
    amounts = [amount(study(6, finding(name, severity, side, "lower")), name) for severity in (0.1, 0.5, 0.9)]
    assert amounts[0] < 0.7 * amounts[1] < 0.55 * amounts[2], amounts


def test_the_same_patient_is_the_same_to_the_last_bit():
    from plugins.phantom.study import make_study

    first, second = make_study(2, 7), make_study(2, 7)
    assert first.parameters == second.parameters
    assert first.samples["text"].data == second.samples["text"].data
    for name in ("ct", "mri_t2", "xray_frontal", "xray_lateral"):
        assert np.array_equal(first.samples[name].data, second.samples[name].data)


def test_other_findings_leave_the_body_as_it_is(study, finding):
    """A lesion changes its voxels and nothing else."""
    sick, well = study(3, finding("lung_lesion", 0.6, "right", "upper")), study(3)
    changed = np.abs(sick.body.volume_hu - well.body.volume_hu) > 1
    assert 0.0001 < changed.mean() < 0.01
    assert sick.parameters["anatomy"] == well.parameters["anatomy"]


def test_prevalences_and_independence():
    rng = np.random.default_rng(0)
    labels = [labels_of(draw_findings(rng)) for _ in range(6000)]
    share = {name: np.mean([row[name] for row in labels]) for name in (*FINDINGS, NO_FINDING)}
    assert 0.25 < share[NO_FINDING] < 0.31
    assert all(0.17 < share[name] < 0.25 for name in FINDINGS)
    assert np.mean([sum(row[name] for name in FINDINGS) > 1 for row in labels]) > 0.35


def test_grades_are_thirds(finding):
    grades = [finding("edema", severity, "bilateral").grade for severity in (0, 0.33, 0.34, 0.66, 0.67, 1.0)]
    assert grades == ["mild", "mild", "moderate", "moderate", "severe", "severe"]
    assert find((finding("edema", 0.5),), "cardiomegaly") is None


def test_a_split_does_not_depend_on_the_size_of_the_cohort():
    splits = [split_of(patient) for patient in range(1200)]
    assert [splits.count(name) for name in ("train", "validation", "test")] == [900, 100, 200]


def test_the_slice_shows_the_finding(study, finding):
    for name in ("lung_lesion", "pleural_effusion", "consolidation"):
        result = study(8, finding(name, 0.7, "right", "upper"))
        assert (result.masks["findings"].data == 1 + FINDINGS.index(name)).sum() > 5
