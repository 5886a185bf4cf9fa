"""The NIfTI reference tools accept what is written, and read the affine that was meant."""

import re
import subprocess

import numpy as np
import pytest

from core.testing.samples import draw_sample
from plugins.ct.modality import CT
from plugins.mri.modality import MODALITIES

CASES = [(CT, "tiny"), (CT, "tiny3d"), (MODALITIES[0], "tiny"), (MODALITIES[0], "tiny3d")]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].name}-{case[1]}")
def written(request, tmp_path, provenance):
    """A sample and its file."""
    modality, preset = request.param
    parts = modality.parts(preset)
    sample, path = draw_sample(modality.name, parts.data, 0), tmp_path / "scan.nii.gz"
    parts.writer.build().write(sample, path, provenance)
    return sample, path


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return result.returncode, result.stdout + result.stderr


def test_header_and_image_are_sound(program, written):
    code, said = run(program("nifti_tool"), "-check_hdr", "-check_nim", "-infiles", str(written[1]))
    assert code == 0, said
    assert said.count("GOOD") == 2, said


def test_the_affine_is_exact(program, written):
    sample, path = written
    _, said = run(program("nifti_tool"), "-disp_hdr", "-infiles", str(path))
    rows = [re.search(rf"srow_{axis}\s+\d+\s+4\s+([-\d. ]+)", said)[1].split() for axis in "xyz"]
    assert np.array_equal(np.float32(rows), sample.geometry.affine[:3].astype(np.float32))
    assert re.search(r"sform_code\s+\d+\s+1\s+1", said)
    assert re.search(r"xyzt_units\s+\d+\s+1\s+2\b", said), "not millimetres"
