"""Segmentations as label maps: what our writer and highdicom wrote, and what is refused."""

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation, SegmentDescription
from pydantic import ValidationError
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from core.errors import UserError
from core.io import (
    AnyFormatReaderConfig,
    Code,
    DicomSegWriterConfig,
    DicomSeriesWriterConfig,
    RadiographReaderConfig,
    Segment,
    SegmentationReaderConfig,
    SliceAt,
    finding_segments,
    organ_segments,
)
from core.io.geometry import centred
from core.types import Geometry, Sample

SHAPE = (6, 12, 10)
SEGMENTS = (
    *organ_segments(("lung", "heart")),
    Segment(name="nodule", kind=Code(value="27925004", meaning="Nodule")),
)
CT = DicomSeriesWriterConfig(kind="CT", dims=3, units="HU")
STRAIGHT = centred(SHAPE, (5.0, 0.7, 0.9), "SPL")


def oblique():
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    turn = np.array([[c, -s, 0, 11.5], [s * c, c * c, -s, -23.25], [s * s, s * c, c, 47.0], [0, 0, 0, 1]])
    return Geometry(affine=turn @ STRAIGHT.affine, shape=SHAPE)


def mask(geometry=STRAIGHT):
    """Labels on the slices 1, 2 and 4 of 6."""
    labels = np.zeros((1, *SHAPE), "f4")
    labels[0, 1:3, 2:6, 1:4], labels[0, 4, 5:9, 5:9], labels[0, 2, 8:, 8:] = 1, 2, 3
    return Sample(modality="organs", data=labels, geometry=geometry)


def scan(geometry=STRAIGHT):
    data = np.random.default_rng(0).uniform(-1000, 1000, (1, *SHAPE)).astype("f4")
    return Sample(modality="ct", data=data, geometry=geometry)


def reader(**options):
    return SegmentationReaderConfig(modality="m", **options).build()


def without_mark(path):
    """The file as an archive leaves it that drops private elements."""
    dataset = pydicom.dcmread(path)
    dataset.remove_private_tags()
    dataset.save_as(path)
    return path


def altered(path, change):
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def written(folder, provenance, sample=None, **options):
    path = folder / "mask.dcm"
    DicomSegWriterConfig(**{"segments": SEGMENTS, "dims": 3, **options}).build().write(
        sample or mask(), path, provenance
    )
    return path


def described(number, segment):
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=highdicom.sr.CodedConcept(segment.kind.value, "SCT", segment.kind.meaning),
        algorithm_type="MANUAL",
    )


def made(folder, provenance, pixels, kind, segments=SEGMENTS, geometry=STRAIGHT, **options):
    """A file of highdicom's on a series of ours; ``pixels`` ``slice row column`` or ``slice row column segment``."""
    CT.build().write(scan(geometry), folder / "scan", provenance)
    sources = [pydicom.dcmread(one) for one in sorted((folder / "scan").iterdir())]
    dataset = Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[described(number, one) for number, one in enumerate(segments, 1)],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="A",
        manufacturer_model_name="B",
        software_versions="1",
        device_serial_number="2",
        **options,
    )
    dataset.save_as(folder / "theirs.dcm")
    return folder / "theirs.dcm"


@pytest.mark.parametrize("form", ["binary", "labelmap"])
@pytest.mark.parametrize("geometry", [STRAIGHT, oblique()], ids=["straight", "oblique"])
@pytest.mark.parametrize("empty", [False, True])
def test_what_our_writer_wrote_comes_back_bit_for_bit(folder, provenance, form, geometry, empty):
    sample = mask(geometry)
    sample = Sample(modality="organs", data=sample.data * (not empty), geometry=geometry)
    found = reader().read(written(folder, provenance, sample, form=form))
    assert found.data.dtype == np.float32
    assert np.array_equal(found.data, sample.data)
    assert found.geometry == geometry
    assert found.meta["units"] == "label"
    assert found.meta["synthetic"] is True


def test_a_slice_comes_back_as_a_slice(folder, provenance):
    place = centred(SHAPE[1:], (0.7, 0.9), "PL")
    sample = Sample(modality="organs", data=mask().data[:, 2], geometry=place)
    found = reader(dims=2).read(written(folder, provenance, sample, dims=2))
    assert np.array_equal(found.data, sample.data)
    assert found.geometry == place
    assert reader().read(folder / "mask.dcm").data.shape == (1, 1, *SHAPE[1:])


def test_a_slice_is_taken_out_of_a_volume_where_that_is_said(folder, provenance):
    path = written(folder, provenance)
    with pytest.raises(UserError, match=r"mask\.dcm: holds a volume of shape \(6, 12, 10\), expected a slice"):
        reader(dims=2).read(path)
    found = reader(dims=2, volume=SliceAt(index=2)).read(path)
    assert np.array_equal(found.data, mask().data[:, 2])
    expected = STRAIGHT.affine @ [2, 0, 0, 1]
    assert np.allclose(found.geometry.affine[:, 3], expected)


@pytest.mark.parametrize("geometry", [STRAIGHT, oblique()], ids=["straight", "oblique"])
def test_without_our_mark_a_map_goes_from_its_first_to_its_last_slice(folder, provenance, geometry):
    """Slice 3 has nothing, and so no frame: it is a slice all the same."""
    path = without_mark(written(folder, provenance, mask(geometry)))
    assert len(pydicom.dcmread(path).PerFrameFunctionalGroupsSequence) == 4
    found = reader().read(path)
    assert np.array_equal(found.data, mask().data[:, 1:5])
    assert np.allclose(found.geometry.affine[:, :3], geometry.affine[:, :3], atol=1e-6)
    assert np.allclose(found.geometry.affine[:, 3], geometry.affine @ [1, 0, 0, 1], atol=1e-6)
    assert "synthetic" not in found.meta


def test_a_series_beside_the_file_gives_all_its_slices(folder, provenance):
    CT.build().write(scan(), folder / "scan", provenance)
    path = without_mark(written(folder, provenance))
    found = reader(grid="scan").read(path)
    assert np.array_equal(found.data, mask().data)
    assert found.geometry.affine == pytest.approx(STRAIGHT.affine)
    CT.build().write(scan(), folder / "mask_ct", provenance)
    assert np.array_equal(reader(grid="{name}_ct").read(path).data, mask().data)


def test_another_series_gives_no_slices(folder, provenance):
    CT.build().write(scan(centred(SHAPE, (5.0, 0.7, 0.8), "SPL")), folder / "scan", provenance)
    with pytest.raises(UserError, match=r"mask\.dcm: its frames do not lie on the slices of .*scan; name its own"):
        reader(grid="scan").read(written(folder, provenance))


def test_slices_lie_as_far_apart_as_the_nearest_two_where_nothing_is_stated(folder, provenance):
    def forget(dataset):
        del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices

    path = altered(without_mark(written(folder, provenance)), forget)
    assert np.array_equal(reader().read(path).data, mask().data[:, 1:5])


def test_a_stated_distance_that_no_frame_keeps_is_not_used(folder, provenance):
    def misstate(dataset):
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "3.1"

    path = altered(without_mark(written(folder, provenance)), misstate)
    assert np.array_equal(reader().read(path).data, mask().data[:, 1:5])


def test_uneven_slices_are_refused(folder, provenance):
    def move(dataset):
        position = dataset.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0].ImagePositionPatient
        position[2] = float(position[2]) + 2.3

    path = altered(without_mark(written(folder, provenance)), move)
    with pytest.raises(UserError, match=r"mask\.dcm: its slices lie unevenly or not on one line"):
        reader().read(path)


def test_moved_since_it_was_written(folder, provenance):
    """The headers hold, not our mark."""

    def move(dataset):
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            position = frame.PlanePositionSequence[0].ImagePositionPatient
            position[0] = float(position[0]) - 30

    found = reader().read(altered(written(folder, provenance), move))
    assert np.array_equal(found.data, mask().data[:, 1:5])
    assert found.geometry.affine[0, 3] == pytest.approx(STRAIGHT.affine[0, 3] + 30)


def test_binary_segments_of_highdicom(folder, provenance):
    labels = mask().data[0].astype(np.uint8)
    path = made(folder, provenance, labels, "BINARY")
    assert np.array_equal(reader(grid="scan").read(path).data[0], labels)
    theirs = highdicom.seg.segread(path).get_volume(combine_segments=True)
    ours = reader().read(path)
    assert np.array_equal(ours.data[0], theirs.array) or np.array_equal(ours.data[0], theirs.array[::-1])


def test_fractions_above_the_threshold_are_there(folder, provenance):
    shares = np.random.default_rng(1).uniform(0, 1, (*SHAPE, 1)).astype(np.float32)
    path = made(folder, provenance, shares, "FRACTIONAL", SEGMENTS[:1], max_fractional_value=200)
    for threshold in (0.5, 0.9):
        found = reader(threshold=threshold).read(path).data[0]
        stored = np.round(shares[..., 0] * 200)
        assert np.array_equal(found, stored >= 200 * threshold)
        assert 0.05 < found.mean() < 0.55


def overlapping():
    pixels = np.zeros((*SHAPE, 3), np.uint8)
    pixels[2, 2:8, 2:8, 0] = pixels[2, 5:10, 5:10, 1] = pixels[3, :2, :2, 2] = 1
    return pixels


def test_overlaps_are_refused_or_the_later_segment_lies_above(folder, provenance):
    path = made(folder, provenance, overlapping(), "BINARY")
    with pytest.raises(UserError, match=r"theirs\.dcm: segment 2 lies over others in 9 points .*overlap = \"later\""):
        reader().read(path)
    found = reader(overlap="later", grid="scan").read(path).data[0]
    assert (found == 1).sum() == 36 - 9
    assert (found == 2).sum() == 25
    assert (found == 3).sum() == 4


def test_segments_of_one_label_may_overlap(folder, provenance):
    """The two lungs, and the part that both have."""
    twice = (SEGMENTS[0], SEGMENTS[0].model_copy(update={"name": "left lung"}), SEGMENTS[2])
    path = made(folder, provenance, overlapping(), "BINARY", twice)
    found = reader(segments=SEGMENTS, match="code", grid="scan").read(path).data[0]
    assert (found == 1).sum() == 36 + 25 - 9
    assert (found == 3).sum() == 4


@pytest.mark.parametrize("match", ["code", "name"])
@pytest.mark.parametrize("form", ["binary", "labelmap"])
def test_a_segment_is_known_by_code_or_name(folder, provenance, match, form):
    """Whatever numbers the file uses."""
    path = written(folder, provenance, form=form)
    found = reader(segments=SEGMENTS[::-1], match=match).read(path)
    assert np.array_equal(found.data, np.array([0, 3, 2, 1], "f4")[mask().data.astype(int)])
    assert found.meta["matched"] is True


def test_old_snomed_codes_are_the_same_codes(folder, provenance):
    def rename(dataset):
        code = dataset.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
        code.CodeValue, code.CodingSchemeDesignator = "T-32000", "SRT"

    path = altered(written(folder, provenance), rename)
    assert np.array_equal(reader(segments=SEGMENTS, match="code").read(path).data, mask().data)


def test_a_segment_that_is_no_label(folder, provenance):
    path = written(folder, provenance)
    with pytest.raises(UserError, match=r"mask\.dcm: segment 3 is nodule \(Nodule, 27925004 SCT\), which is none of"):
        reader(segments=SEGMENTS[:2], match="code").read(path)
    with pytest.raises(UserError, match=r"segment 3 is nodule .*none of the 2 labels by number"):
        reader(segments=SEGMENTS[:2]).read(path)
    found = reader(segments=SEGMENTS[:2], others="nothing").read(path).data
    assert np.array_equal(found, np.where(mask().data < 3, mask().data, 0))


def test_what_is_no_segmentation_is_refused(folder, provenance):
    CT.build().write(scan(), folder / "scan", provenance)
    with pytest.raises(UserError, match=r"0001\.dcm: is no segmentation \(CT Image Storage\)"):
        reader().read(folder / "scan/0001.dcm")
    with pytest.raises(UserError, match="scan: is a folder, expected a file"):
        reader().read(folder / "scan")
    with pytest.raises(UserError, match=r"none\.dcm: no such file"):
        reader().read(folder / "none.dcm")


FAULTS = {
    "kind": (lambda one: setattr(one, "SegmentationType", "SURFACE"), "SegmentationType is SURFACE, expected BINARY"),
    "no segments": (lambda one: one.pop("SegmentSequence"), "states no segments"),
    "same numbers": (lambda one: setattr(one.SegmentSequence[1], "SegmentNumber", 1), "two segments of one number"),
    "unknown": (lambda one: one.SegmentSequence.pop(0), r"has points of segment 1, and describes 2, 3"),
    "twice": (
        lambda one: setattr(
            one.PerFrameFunctionalGroupsSequence[1],
            "PlanePositionSequence",
            one.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence,
        ),
        r"frame 1 and mask\.dcm frame 2 of segment 1 lie at one place",
    ),
    "frames": (lambda one: setattr(one, "NumberOfFrames", 40), "states the places of 4"),
    "rows": (lambda one: setattr(one, "Rows", 13), r"bytes of pixels, and its header states"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_contradicts_itself_is_refused(folder, provenance, fault):
    change, said = FAULTS[fault]
    path = altered(written(folder, provenance), change)
    with pytest.raises(UserError, match=said) as caught:
        reader().read(path)
    assert "mask.dcm" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lying_distance_makes_no_endless_volume(folder, provenance):
    def spread(dataset):
        last = dataset.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0].ImagePositionPatient
        last[2] = float(last[2]) + 90_000
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "0.0025"

    path = altered(without_mark(written(folder, provenance)), spread)
    with pytest.raises(UserError, match=r"more than max_megavoxels = 1000|lie unevenly"):
        reader().read(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"match": "code"}, "needs segments to match"),
        ({"match": "code", "segments": (SEGMENTS[0], SEGMENTS[0])}, "two segments have one code"),
        ({"threshold": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(options, said):
    with pytest.raises(ValidationError, match=said):
        SegmentationReaderConfig(modality="m", **options)


def test_a_scan_reader_has_one_meaning_of_dicom():
    with pytest.raises(ValidationError, match="not as several"):
        AnyFormatReaderConfig(
            radiograph=RadiographReaderConfig(modality="m", orientation="IL"),
            segmentation=SegmentationReaderConfig(modality="m"),
        )


def test_terms_without_a_code_are_named():
    assert [one.kind.value for one in finding_segments(("edema",))] == ["19242006"]
    with pytest.raises(UserError, match=r"no organ with a code 'lungs' .*did you mean 'lung'"):
        organ_segments(("lungs",))
