"""Segmentations as highdicom reads them."""

import re
import shutil

import highdicom
import numpy as np
import pydicom
import pytest

from core.errors import UserError
from core.io import Code, DicomSegWriterConfig, DicomSeriesWriterConfig, Segment
from core.io.dicom.mark import read_mark
from core.io.geometry import centred
from core.types import Sample

SHAPE = (4, 12, 10)
PLACE = centred(SHAPE, (5.0, 0.7, 0.9), "SPL")
SEGMENTS = (
    Segment(name="lung", kind=Code(value="39607008", meaning="Lung")),
    Segment(name="heart", kind=Code(value="80891009", meaning="Heart")),
    Segment(name="nodule", kind=Code(value="27925004", meaning="Nodule")),
)
CONFIG = DicomSegWriterConfig(segments=SEGMENTS, dims=3, source="scan")
CT = DicomSeriesWriterConfig(kind="CT", dims=3, units="HU")


def mask(geometry=PLACE):
    labels = np.zeros((1, *SHAPE), "f4")
    labels[0, 1:3, 2:6, 1:4], labels[0, 3, 5:9, 5:9] = 1, 2
    return Sample(modality="organs", data=labels, geometry=geometry)


def scan(geometry=PLACE):
    data = np.random.default_rng(0).uniform(-1000, 1000, (1, *SHAPE)).astype("f4")
    return Sample(modality="ct", data=data, geometry=geometry)


def volume(path):
    """The labels as highdicom puts them together, with the position of the first voxel."""
    read = highdicom.seg.segread(path).get_volume(combine_segments=True)
    return read.array, read.get_affine("RAS")


def whole(labels, affine):
    """Labels of slices that were left out because nothing is in them."""
    full = np.zeros(SHAPE, labels.dtype)
    start = np.linalg.inv(PLACE.affine) @ affine[:, 3]
    first = round(float(start[0]))
    full[first : first + len(labels)] = labels
    return full


@pytest.mark.parametrize("form", ["binary", "labelmap"])
@pytest.mark.parametrize("source", ["scan", None])
def test_labels_and_places_come_back(folder, provenance, form, source):
    CT.build().write(scan(), folder / "scan", provenance)
    config = CONFIG.model_copy(update={"form": form, "source": source})
    config.build().write(mask(), folder / "mask.dcm", provenance)
    labels, affine = volume(folder / "mask.dcm")
    # highdicom orders slices along the normal of its own choice.
    if affine[:3, 0] @ PLACE.affine[:3, 0] < 0:
        affine = affine.copy()
        affine[:3, 3] += affine[:3, 0] * (len(labels) - 1)
        affine[:3, 0] *= -1
        labels = labels[::-1]
    assert np.allclose(affine[:3, :3], PLACE.affine[:3, :3], atol=1e-6)
    assert np.array_equal(whole(labels, affine), mask().data[0])


def test_segments_are_coded(folder, provenance):
    CONFIG.build().write(mask(), folder / "mask.dcm", provenance)
    found = pydicom.dcmread(folder / "mask.dcm")
    assert [one.SegmentLabel for one in found.SegmentSequence] == ["lung", "heart", "nodule"]
    assert [one.SegmentNumber for one in found.SegmentSequence] == [1, 2, 3]
    assert found.SegmentSequence[2].SegmentedPropertyTypeCodeSequence[0].CodeValue == "27925004"
    assert found.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"


def referred(dataset):
    return {one.value for one in dataset.iterall() if one.keyword == "ReferencedSOPInstanceUID"}


def test_it_refers_to_the_series_beside_it(folder, provenance):
    CT.build().write(scan(), folder / "scan", provenance)
    CONFIG.build().write(mask(), folder / "mask.dcm", provenance)
    found = pydicom.dcmread(folder / "mask.dcm")
    source = [pydicom.dcmread(one) for one in sorted((folder / "scan").iterdir())]
    assert referred(found) == {one.SOPInstanceUID for one in source}
    (series,) = found.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source[0].SeriesInstanceUID
    for key in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID"):
        assert found[key].value == source[0][key].value
    frame = found.PerFrameFunctionalGroupsSequence[0]
    position = frame.PlanePositionSequence[0].ImagePositionPatient
    about = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    (same,) = [one for one in source if one.SOPInstanceUID == about]
    assert np.allclose(np.float64(position), np.float64(same.ImagePositionPatient))


def test_it_refers_to_a_slice_beside_it(folder, provenance):
    place = centred(SHAPE[1:], (0.7, 0.9), "PL")
    image = Sample(modality="ct", data=scan().data[:, 0], geometry=place)
    CT.model_copy(update={"dims": 2}).build().write(image, folder / "scan.dcm", provenance)
    labels = Sample(modality="organs", data=mask().data[:, 1], geometry=place)
    CONFIG.model_copy(update={"dims": 2}).build().write(labels, folder / "mask.dcm", provenance)
    assert referred(pydicom.dcmread(folder / "mask.dcm")) == {pydicom.dcmread(folder / "scan.dcm").SOPInstanceUID}


@pytest.mark.parametrize("why", ["absent", "elsewhere", "other study", "other slices"])
def test_it_refers_to_nothing_that_is_not_its_source(folder, provenance, why):
    if why != "absent":
        moved = centred(SHAPE, (5.0, 0.7, 0.8), "SPL") if why == "elsewhere" else PLACE
        told = provenance.model_copy(update={"index": 1}) if why == "other study" else provenance
        CT.build().write(scan(moved), folder / "scan", told)
    if why == "other slices":
        (folder / "scan/0004.dcm").unlink()
    CONFIG.build().write(mask(), folder / "mask.dcm", provenance)
    found = pydicom.dcmread(folder / "mask.dcm")
    assert referred(found) == set()
    assert "ReferencedSeriesSequence" not in found
    assert volume(folder / "mask.dcm")[0].max() == 2


def test_it_says_that_it_is_synthetic(folder, provenance):
    CONFIG.build().write(mask(), folder / "mask.dcm", provenance)
    found = pydicom.dcmread(folder / "mask.dcm")
    assert found[0x0008, 0x001C].value == "YES"
    assert found.PatientName == "SYNTHETIC^MEDWEAVE"
    assert found.SeriesDescription == "SYNTHETIC organs"
    mark = read_mark(found, folder)
    assert mark.provenance == provenance
    assert np.array_equal(np.array(mark.affine), PLACE.affine)


def test_the_same_order_gives_the_same_bytes_on_another_day(folder, provenance, monkeypatch):
    CONFIG.build().write(mask(), folder / "a.dcm", provenance)
    content = (folder / "a.dcm").read_bytes()

    import datetime

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 5, 6, 7, 8, 9, tzinfo=tz)

    monkeypatch.setattr(datetime, "datetime", Later)
    CONFIG.build().write(mask(), folder / "b.dcm", provenance)
    assert (folder / "b.dcm").read_bytes() == content
    assert not re.search(rb"\x08\x00\x12\x00DA", content)


def test_an_empty_mask_is_written(folder, provenance):
    nothing = Sample(modality="organs", data=mask().data * 0, geometry=PLACE)
    CONFIG.build().write(nothing, folder / "mask.dcm", provenance)
    assert volume(folder / "mask.dcm")[0].max() == 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (mask().data + 0.25, "between whole numbers"),
        (mask().data * 2, "leave what is stored, 0 to 3"),
        (-mask().data, "leave what is stored"),
        (mask().data * np.nan, "NaN"),
    ],
)
def test_what_is_no_label_is_refused(folder, provenance, data, expected):
    with pytest.raises(UserError, match=expected):
        CONFIG.build().write(Sample(modality="organs", data=data, geometry=PLACE), folder / "mask.dcm", provenance)
    assert list(folder.iterdir()) == []


def test_a_mask_of_a_projection_is_refused(folder, provenance):
    place = centred((4, 4), (1, 1), "IL", projection=True)
    sample = Sample(modality="organs", data=np.zeros((1, 4, 4), "f4"), geometry=place)
    with pytest.raises(UserError, match="no place in the patient"):
        CONFIG.model_copy(update={"dims": 2}).build().write(sample, folder / "mask.dcm", provenance)


def test_a_broken_source_is_named(folder, provenance):
    CT.build().write(scan(), folder / "scan", provenance)
    (folder / "scan/0002.dcm").write_bytes(b"not DICOM at all")
    with pytest.raises(UserError, match=r"0002\.dcm: cannot be read as DICOM"):
        CONFIG.build().write(mask(), folder / "mask.dcm", provenance)
    shutil.rmtree(folder / "scan")


def test_two_segments_of_one_name_are_refused():
    with pytest.raises(ValueError, match="one name"):
        DicomSegWriterConfig(segments=(SEGMENTS[0], SEGMENTS[0]), dims=3)
