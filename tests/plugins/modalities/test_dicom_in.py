"""DICOM through the plugins' readers and preprocessors."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from core.errors import UserError
from plugins.ct.modality import CT
from plugins.mri.modality import MODALITIES
from plugins.xray.modality import FRONTAL, LATERAL
from tests.unit.io.dicom.dicom_files import cr, ct_series, put, save


def canonical(modality, path, preset="tiny"):
    parts = modality.parts(preset)
    sample = parts.preprocess.build().apply(parts.reader.build().read(path))
    assert sample.data.shape == (parts.data.channels, *parts.data.space)
    assert -1 <= sample.data.min() < sample.data.max() <= 1
    return sample


def file(name):
    return Path(get_testdata_file(name, download=False))


def test_slices_of_pydicom():
    canonical(CT, file("CT_small.dcm"))
    canonical(MODALITIES[0], file("MR_small.dcm"))
    with pytest.raises(UserError, match=r"MR_small\.dcm: its Modality is MR, expected CT"):
        canonical(CT, file("MR_small.dcm"))
    with pytest.raises(UserError, match=r"CT_small\.dcm: its Modality is CT, expected CR or DX"):
        canonical(FRONTAL, file("CT_small.dcm"))


def test_a_folder_is_a_volume_and_a_sphere_stays_where_it_is(tmp_path):
    """A bright ball to the patient's left, front and top is there in the canonical volume too."""
    k, i, j = np.indices((24, 32, 32))
    ball = (k - 17) ** 2 + (i - 8) ** 2 + (j - 23) ** 2 < 25
    volume = np.where(ball, 1500, 24).astype(np.int16)  # HU 476 in air
    # Slices from the head down, columns towards the patient's left, rows towards the back.
    ct_series(tmp_path, volume[::-1], (-150, -150, 115), (0, 0, -10), spacing=(10, 10))
    sample = canonical(CT, tmp_path, "tiny3d")
    centre = np.argwhere(sample.data[0] > sample.data.mean()).mean(axis=0) / np.array(sample.data.shape[1:])
    superior, posterior, left = centre
    assert superior > 0.55
    assert posterior < 0.45
    assert left > 0.55


def test_a_radiograph_has_one_view(tmp_path):
    stored = np.random.default_rng(0).integers(0, 4096, (40, 32), dtype=np.uint16)
    frontal = save(put(cr(stored), BitsStored=12, HighBit=11), tmp_path / "frontal.dcm")
    canonical(FRONTAL, frontal)
    with pytest.raises(UserError, match=r"frontal\.dcm: ViewPosition says PA, and xray_lateral takes lateral"):
        canonical(LATERAL, frontal)
    side = save(put(cr(stored), BitsStored=12, HighBit=11, ViewPosition="LL"), tmp_path / "side.dcm")
    assert canonical(LATERAL, side).geometry is not None
