"""Two affines in one NIfTI file: which one holds, and a word where they cannot both be right."""

import warnings

import nibabel as nib
import numpy as np
import pytest

from core.errors import MedWeaveWarning, UserError
from core.io import NiftiReaderConfig


@pytest.fixture
def write(tmp_path):
    def written(sform, qform, spacing=(1.3, 1.3, 10.0)):
        """Files of ACDC have such headers: nnU-Net issue 2741."""
        image = nib.Nifti1Image(np.zeros((3, 4, 2), np.int16), None)
        image.header.set_zooms(spacing)
        if qform is not None:
            image.set_qform(np.diag(qform), code=1)
        if sform is not None:
            image.set_sform(np.diag(sform), code=1)
            image.header.set_zooms(spacing)
        nib.save(image, tmp_path / "heart.nii.gz")
        return tmp_path / "heart.nii.gz"

    return written


def read(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return NiftiReaderConfig(modality="m", **options).build().read(path).geometry.spacing_mm


def test_a_contradiction_gives_a_warning_and_the_sform_is_used(write):
    path = write((-1, -1, 1, 1), (-1.3, -1.3, 10, 1))
    with pytest.warns(
        MedWeaveWarning, match=r"heart\.nii\.gz: its sform says a spacing of 1 x 1 x 1, its header 1\.3 x"
    ):
        sample = NiftiReaderConfig(modality="m").build().read(path)
    assert sample.geometry.spacing_mm == pytest.approx((1, 1, 1))
    assert read(path, form="sform") == pytest.approx((1, 1, 1))


def test_the_qform_may_be_configured(write):
    path = write((-1, -1, 1, 1), (-1.3, -1.3, 10, 1))
    assert read(path, form="qform") == pytest.approx((1.3, 1.3, 10), rel=1e-6)


def test_a_qform_that_is_not_there_is_not_made_up(write):
    path = write((-1.3, -1.3, 10, 1), None)
    with pytest.raises(UserError, match=r"heart\.nii\.gz: states no qform"):
        read(path, form="qform")


def test_forms_that_agree_say_nothing(write):
    assert read(write((-1.3, -1.3, 10, 1), (-1.3, -1.3, 10, 1))) == pytest.approx((1.3, 1.3, 10), rel=1e-6)
    assert read(write(None, (-1.3, -1.3, 10, 1))) == pytest.approx((1.3, 1.3, 10), rel=1e-6)
