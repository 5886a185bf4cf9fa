"""What is known of the real collections is found. Numbers alone; the data are never part of the repository."""

import json
from pathlib import Path

import pytest

from core import prepare

ROOT = Path(__file__).parents[3]


@pytest.fixture
def audit(real_data, tmp_path, monkeypatch):
    """The findings of a data set of the shipped registry, by check and modality."""

    def call(name):
        monkeypatch.setenv("MEDWEAVE_DATA", str(real_data(name).parent))
        command = ["--audit-only", "--quiet", "--workers", "1", "--out", str(tmp_path / "out")]
        prepare.main([name, *command, "--registry", str(ROOT / "registry.toml")])
        audit = json.loads((tmp_path / "out/tiny/audit.json").read_text())
        assert not [finding for finding in audit["findings"] if finding["verdict"] == "error"]
        return {(finding["check"], finding["where"]): finding for finding in audit["findings"]}

    return call


def share(finding):
    return finding["count"] / finding["num"]


def test_harvard_has_few_patients_and_slices_that_resemble_each_other(audit):
    result = audit("harvard_ct_mr_pet_spect")
    assert result["patients", ""]["count"] == 9
    assert result["patients", ""]["verdict"] == "warning"
    assert result["units assumed", "ct"]["count"] == result["units assumed", "ct"]["num"] == 146
    for name in ("ct", "mri"):
        assert share(result["near-copies of one patient", name]) > 0.9
        assert result["near-copies of two patients", name]["count"] <= 2
    assert result["pairs", "ct, mri"]["count"] == 146


def test_brats2013_has_a_slice_of_each_of_six_patients(audit):
    result = audit("brats2013_2d")
    assert result["patients", ""]["count"] == 6
    assert result["texts", "text"]["count"] == 1
    for name in ("mri_t1", "mri_t1c", "mri_t2", "mri_flair"):
        assert result["stored as", name]["numbers"] == {"NIfTI float32": 6}


@pytest.mark.slow
def test_openi_repeats_itself_holds_xxxx_and_was_squeezed(audit):
    """Its README: 45 % hold XXXX, 37 % are normal, a quarter of the texts repeat, all are squeezed to a square."""
    result = audit("openi_cxr")
    assert share(result["de-identified text", "text"]) == pytest.approx(0.45, abs=0.02)
    assert result["labels", ""]["numbers"]["normal"] / result["labels", ""]["num"] == pytest.approx(0.37, abs=0.01)
    assert share(result["same text, two patients", "text"]) == pytest.approx(0.25, abs=0.03)
    assert result["same text, two patients", "text, findings"]["numbers"]["splits"] > 100
    for name in ("xray_frontal", "xray_lateral"):
        assert result["all square", name]["verdict"] == "warning"
        assert result["near-copies of two patients", name]["count"] == 0


@pytest.mark.slow
def test_medpix_has_no_hounsfield_units(audit):
    result = audit("medpix_ct_mr")
    assert result["units assumed", "ct"]["count"] == result["units assumed", "ct"]["num"] == 620
    assert share(result["near-copies of one patient", "ct"]) > 0.3
