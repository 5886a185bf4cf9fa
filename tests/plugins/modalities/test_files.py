"""Files as they come, through the parts of each modality."""

import csv
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from core.api import Provenance, UserError
from core.guide.positions import known_axes
from core.io import ImageReaderConfig
from plugins.ct.modality import CT
from plugins.mri.modality import MODALITIES
from plugins.xray.modality import FRONTAL, LATERAL

MRI = MODALITIES[0]


def canonical(modality, path, preset="tiny"):
    parts = modality.parts(preset)
    return parts.preprocess.build().apply(parts.reader.build().read(path))


def test_bit_depth_of_a_radiograph_does_not_matter(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (40, 30), np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    Image.fromarray(array.astype(np.uint16) * 257).save(tmp_path / "b.png")
    first, second = canonical(FRONTAL, tmp_path / "a.png"), canonical(FRONTAL, tmp_path / "b.png")
    assert np.allclose(first.data, second.data, atol=1e-5)
    assert first.geometry.orientation == "IL"
    assert canonical(LATERAL, tmp_path / "a.png").geometry.orientation == "IP"


@pytest.mark.parametrize(("view", "axes"), [(FRONTAL, (True, False, True)), (LATERAL, (False, True, True))])
@pytest.mark.parametrize("preset", ["tiny", "tiny3d", "small", "paper"])
def test_a_radiograph_knows_that_it_is_a_projection(tmp_path, view, axes, preset):
    """As declared, as read from a foreign picture, as prepared, and as read back after it was generated."""
    parts = view.parts(preset)
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(40, 30)).save(tmp_path / "a.png")
    reader, preprocess = parts.reader.build(), parts.preprocess.build()
    preprocessed = preprocess.apply(reader.read(tmp_path / "a.png"))
    restored = preprocess.invert(replace(preprocessed, geometry=None), None)
    parts.writer.build().write(restored, tmp_path / "b.png", Provenance(model="m", recipe="r", seed=0))
    again = reader.read(tmp_path / "b.png")
    for geometry in (parts.data.default_geometry, preprocessed.geometry, again.geometry):
        assert geometry.source_header["projection"] is True
        assert known_axes(geometry) == axes


def test_slices_are_no_projections():
    for modality in (CT, MRI):
        geometry = modality.parts("tiny").data.default_geometry
        assert "projection" not in geometry.source_header
        assert known_axes(geometry) == (True, True, True)


def test_hounsfield_units_survive(tmp_path):
    data = np.full((40, 50, 1), -1000, np.int16)
    data[10:30, 20:40] = 40
    nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1.0, 5.0, 1.0])), tmp_path / "a.nii.gz")
    parts = CT.parts("tiny")
    sample = parts.reader.build().read(tmp_path / "a.nii.gz")
    preprocessed = parts.preprocess.build().apply(sample)
    assert preprocessed.geometry.orientation == "PL"
    assert np.isclose(preprocessed.data.max(), 0.04, atol=1e-5)
    restored = parts.preprocess.build().invert(preprocessed, sample.geometry)
    parts.writer.build().write(restored, tmp_path / "b.nii.gz", Provenance(model="m", recipe="r", seed=0))
    again = nib.load(tmp_path / "b.nii.gz")
    assert again.shape == (40, 50, 1)
    assert np.allclose(again.affine, np.diag([-1.0, -1.0, 5.0, 1.0]))
    assert abs(float(again.get_fdata()[20, 30, 0]) - 40) <= 0.5
    assert again.get_data_dtype() == np.int16


def test_ct_reads_an_exported_image_only_with_its_window(tmp_path):
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "a.png")
    reader = CT.parts("tiny").reader
    with pytest.raises(UserError, match=r"a\.png.*set reader.image"):
        reader.build().read(tmp_path / "a.png")
    window = ImageReaderConfig(modality="ct", orientation="PL", units="HU", value_range=(-160, 240))
    assert reader.model_copy(update={"image": window}).build().read(tmp_path / "a.png").data.max() == 240


def test_slices_and_volumes_are_not_mixed_up(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((8, 9, 10), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="holds a volume"):
        canonical(MRI, tmp_path / "a.nii.gz", "tiny")
    assert canonical(MRI, tmp_path / "a.nii.gz", "tiny3d").data.shape == (1, 32, 32, 32)
    sagittal = np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros((8, 9, 1), np.float32), sagittal), tmp_path / "b.nii.gz")
    with pytest.raises(UserError, match=r"b\.nii\.gz: its axes run AS, which is another plane than 'PL'"):
        canonical(MRI, tmp_path / "b.nii.gz", "tiny")


def rows(folder, count):
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return [row for row, _ in zip(csv.DictReader(file), range(count), strict=False)]


@pytest.mark.parametrize(
    ("folder", "views"),
    [("openi_cxr", {"xray_frontal": FRONTAL, "xray_lateral": LATERAL}), ("harvard_ct_mr_pet_spect", {"mri": MRI})],
)
def test_real_pictures(real_data, folder, views):
    folder, seen = real_data(folder), 0
    for row in rows(folder, 40):
        if row["modality"] in views:
            data = canonical(views[row["modality"]], folder / row["file"]).data
            assert data.shape == (1, 64, 64)
            assert data.std() > 0.1
            seen += 1
    assert seen > 4


def test_real_volumes_and_slices(real_data):
    (first, *_) = sorted((real_data("openms_mri") / "nii").glob("*T1W*.nii.gz"))
    parts = MRI.parts("tiny3d")
    sample = parts.reader.build().read(first)
    preprocessed = parts.preprocess.build().apply(sample)
    assert preprocessed.geometry.orientation == "SPL"
    restored = parts.preprocess.build().invert(preprocessed, sample.geometry)
    assert restored.geometry == sample.geometry
    assert np.corrcoef(restored.data.ravel(), sample.data.ravel())[0, 1] > 0.8
    for path in sorted((real_data("brats2013_2d") / "nii").glob("*T1_*.nii.gz"))[:3]:
        assert canonical(MRI, path).geometry.orientation == "PL"
