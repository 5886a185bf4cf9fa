"""Digital X-Ray images as a viewer with nothing but the standard sees them."""

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from core.errors import UserError
from core.io import DicomRadiographWriterConfig
from core.io.dicom.mark import read_mark
from core.io.geometry import centred
from core.types import Geometry, Sample

PA = DicomRadiographWriterConfig(view="PA")
SHAPE = (5, 7)


def radiograph(orientation="IL", seed=0):
    data = np.random.default_rng(seed).uniform(0, 1, (1, *SHAPE)).astype("f4")
    data[0, 0, :2] = 0, 1
    return Sample(modality="view", data=data, geometry=centred(SHAPE, (0.5, 0.4), orientation, projection=True))


@pytest.mark.parametrize("bits", [12, 16])
def test_the_window_shows_the_share_of_full_scale(folder, provenance, bits):
    writer = PA.model_copy(update={"bits": bits}).build()
    sample = radiograph()
    writer.write(sample, folder / "x.dcm", provenance)
    found = pydicom.dcmread(folder / "x.dcm")
    shown = apply_voi_lut(apply_modality_lut(found.pixel_array, found), found) / (2**bits - 1)
    assert np.abs(shown - sample.data[0]).max() <= writer.tolerance + 1e-6
    assert writer.tolerance == pytest.approx(0.5 / (2**bits - 1))
    assert (found.PhotometricInterpretation, found.BitsStored, found.PresentationIntentType) == (
        "MONOCHROME2",
        bits,
        "FOR PRESENTATION",
    )
    assert len(found.PixelData) % 2 == 0


def test_another_range_of_values(folder, provenance):
    writer = DicomRadiographWriterConfig(view="PA", value_range=(-1.0, 3.0)).build()
    sample = Sample(modality="view", data=radiograph().data * 4 - 1, geometry=radiograph().geometry)
    writer.write(sample, folder / "x.dcm", provenance)
    levels = pydicom.dcmread(folder / "x.dcm").pixel_array
    assert np.abs(levels / 65535 * 4 - 1 - sample.data[0]).max() <= writer.tolerance + 1e-6


@pytest.mark.parametrize(
    ("view", "orientation", "code", "patient"),
    [
        ("PA", "IL", "272479007", ["L", "F"]),
        ("AP", "IL", "399348003", ["L", "F"]),
        ("LL", "IP", "399173006", ["P", "F"]),
        ("RL", "IA", "399198007", ["A", "F"]),
        ("PA", "SR", "272479007", ["R", "H"]),
    ],
)
def test_view_and_directions(folder, provenance, view, orientation, code, patient):
    DicomRadiographWriterConfig(view=view).build().write(radiograph(orientation), folder / "x.dcm", provenance)
    found = pydicom.dcmread(folder / "x.dcm")
    assert list(found.PatientOrientation) == patient
    assert (found.ViewPosition, found.ViewCodeSequence[0].CodeValue) == (view, code)
    assert [float(one) for one in found.ImagerPixelSpacing] == [0.5, 0.4]
    assert (found.ImageLaterality, found.AnatomicRegionSequence[0].CodeMeaning) == ("U", "Chest")
    assert "FrameOfReferenceUID" not in found
    assert "ImagePositionPatient" not in found


def test_a_slanted_axis_has_two_letters(folder, provenance):
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    straight = radiograph()
    place = Geometry(affine=turn @ straight.geometry.affine, shape=SHAPE)
    PA.build().write(Sample(modality="view", data=straight.data, geometry=place), folder / "x.dcm", provenance)
    assert list(pydicom.dcmread(folder / "x.dcm").PatientOrientation) == ["LP", "F"]


def test_two_views_are_two_series_of_one_study(folder, provenance):
    PA.build().write(radiograph(), folder / "a.dcm", provenance)
    lateral = Sample(modality="side", data=radiograph().data, geometry=radiograph("IP").geometry)
    DicomRadiographWriterConfig(view="LL").build().write(lateral, folder / "b.dcm", provenance)
    first, second = pydicom.dcmread(folder / "a.dcm"), pydicom.dcmread(folder / "b.dcm")
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.PatientID == second.PatientID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_it_says_that_it_is_synthetic_and_how_it_was_made(folder, provenance):
    sample = radiograph()
    PA.build().write(sample, folder / "x.dcm", provenance)
    found = pydicom.dcmread(folder / "x.dcm")
    assert found[0x0008, 0x001C].value == "YES"
    assert list(found.ImageType) == ["DERIVED", "SECONDARY"]
    assert "seed 7" in found.DerivationDescription
    mark = read_mark(found, folder)
    assert (mark.provenance, mark.value_range) == (provenance, (0.0, 1.0))
    assert np.array_equal(np.array(mark.affine), sample.geometry.affine)
    assert mark.stored == {"projection": True}


def test_the_same_order_gives_the_same_bytes(folder, provenance):
    for name in "ab":
        PA.build().write(radiograph(), folder / f"{name}.dcm", provenance)
    assert (folder / "a.dcm").read_bytes() == (folder / "b.dcm").read_bytes()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.full((1, *SHAPE), 1.1, "f4"), "leave what is stored, 0 to 1"),
        (np.full((1, *SHAPE), -0.1, "f4"), "leave what is stored"),
        (np.full((1, *SHAPE), np.inf, "f4"), "NaN or infinite"),
        (np.zeros((3, *SHAPE), "f4"), "3 channels"),
    ],
)
def test_what_cannot_be_written_is_refused(folder, provenance, data, expected):
    with pytest.raises(UserError, match=expected):
        PA.build().write(
            Sample(modality="view", data=data, geometry=radiograph().geometry), folder / "x.dcm", provenance
        )
    assert list(folder.iterdir()) == []


def test_nothing_is_overwritten_unless_told(folder, provenance):
    PA.build().write(radiograph(), folder / "x.dcm", provenance)
    before = (folder / "x.dcm").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        PA.build().write(radiograph(seed=1), folder / "x.dcm", provenance)
    assert (folder / "x.dcm").read_bytes() == before
    PA.build().write(radiograph(seed=1), folder / "x.dcm", provenance, overwrite=True)
    assert (folder / "x.dcm").read_bytes() != before
    with pytest.raises(UserError, match=r"makes \.dcm"):
        PA.build().write(radiograph(), folder / "x.png", provenance)


def test_a_range_has_width():
    with pytest.raises(ValueError, match="low < high"):
        DicomRadiographWriterConfig(view="PA", value_range=(1.0, 1.0))
