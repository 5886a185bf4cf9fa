"""CT and MR in DICOM: where every voxel lies, what it holds, and what is refused."""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut

from core.errors import MedWeaveWarning, UserError
from core.io import DicomSeriesWriterConfig, NiftiReaderConfig, NiftiWriterConfig, SeriesReaderConfig, SliceAt, centred
from core.types import Sample
from tests.unit.io.dicom.dicom_files import MR, ct_series, ct_slice, enhanced, image, put, save


def reader(**options):
    return SeriesReaderConfig(modality="m", **options).build()


def turned(a, b, c):
    """A rotation matrix by three angles, in this test's own words."""
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return x @ y @ z


def stored(shape=(5, 6, 7), seed=0):
    return np.random.default_rng(seed).integers(0, 2000, shape, dtype=np.int16)


def shipped(name):
    return Path(get_testdata_file(name, download=False))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("tilt_mm", [0.0, 0.9])
@pytest.mark.parametrize("angles", [(0, 0, 0), (0.3, -0.4, 0.8), (1.5, 0.2, -2.0)])
def test_a_bright_voxel_lies_where_the_patient_has_it(tmp_path, angles, tilt_mm, reverse):
    """Handedness: rows, columns and slices in any direction; a gantry tilt shifts each slice along its columns."""
    turn = turned(*angles)
    along, down, normal = turn.T
    origin, spacing = np.array([-31.25, 12.5, 40.0]), (0.7, 0.4)
    step = normal * 2.5 * (-1 if reverse else 1) + down * tilt_mm
    volume = np.zeros((5, 6, 7), np.int16)
    k, i, j = 3, 1, 5
    volume[k, i, j] = 3000
    lps = origin + k * step + down * spacing[0] * i + along * spacing[1] * j
    cosines = np.array([*along, *down])
    ct_series(tmp_path, volume, origin, step, [float(f"{c:.12f}") for c in cosines], spacing)
    found = reader().read(tmp_path)
    where = np.argwhere(found.data[0] == found.data.max())
    assert len(where) == 1
    ras = found.geometry.affine @ [*where[0], 1]
    assert np.abs(ras[:3] - lps * [-1, -1, 1]).max() < 1e-6
    # Slices run along the normal, so the axes (column, row, slice) are right-handed in DICOM and in ours.
    assert np.linalg.det(found.geometry.affine[:3, [2, 1, 0]]) > 0


def test_affine_agrees_with_nibabel_and_values_with_pydicom():
    """nibabel orders its axes (row, column, slice) in LPS and takes the first slice's position."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that their readers are experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_data
    for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"):
        path = shipped(name)
        found, plain = reader(dims=2).read(path), pydicom.dcmread(path)
        theirs = np.diag([-1, -1, 1, 1]) @ wrapper_from_data(plain).affine
        assert np.allclose(found.geometry.affine[:, [0, 1, 3]], theirs[:, [0, 1, 3]], atol=1e-4)
        expected = apply_modality_lut(plain.pixel_array, plain).astype(np.float32)
        padding = plain.pixel_array == plain.get("PixelPaddingValue", 32767)
        assert np.array_equal(found.data[0][~padding], expected[~padding])
        assert (found.data[0][padding] == expected[~padding].min()).all()
        assert found.data.dtype == np.float32
    assert padding.sum() == 0
    assert reader(dims=2).read(shipped("CT_small.dcm")).geometry.orientation == "PL"


def test_volume_agrees_with_highdicom(tmp_path):
    import highdicom

    turn = turned(0.2, 0.1, -0.3)
    cosines = [float(f"{c:.12f}") for c in (*turn[:, 0], *turn[:, 1])]
    ct_series(tmp_path, stored(), (10, 20, 30), turn[:, 2] * 2.0, cosines, (0.5, 0.75), StudyID="1")
    theirs = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in tmp_path.iterdir()])
    found = reader().read(tmp_path)
    # Their slices run the other way; the same voxel has the same value and the same place.
    flipped = np.diag([-1, -1, 1, 1]) @ theirs.affine
    for place in [(0, 0, 0), (4, 5, 6), (2, 3, 1)]:
        world = flipped @ [*place, 1]
        ours = np.rint(np.linalg.inv(found.geometry.affine) @ world)[:3].astype(int)
        assert np.allclose(found.geometry.affine @ [*ours, 1], world, atol=1e-6)
        assert found.data[0][tuple(ours)] == theirs.array[place]


def test_compressed_is_uncompressed():
    plain = reader(dims=2).read(shipped("MR_small.dcm"))
    for name in ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_expb.dcm"):
        found = reader(dims=2).read(shipped(name))
        assert np.array_equal(found.data, plain.data)
        assert found.geometry == plain.geometry


@pytest.mark.parametrize("codec", [None, "rle"])
def test_hounsfield_units_and_what_is_kept(tmp_path, codec):
    values = stored((4, 5))
    dataset = ct_slice(values, (1, 2, 3), KVP="120", WindowCenter=["40", "600"], WindowWidth=["400", "1500"])
    path = save(dataset, tmp_path / "Größe 胸部")  # no suffix
    if codec:
        packed = pydicom.dcmread(path)
        packed.compress(pydicom.uid.RLELossless)
        packed.save_as(path)
    found = reader(dims=2, units="HU", rescale="require", kinds=("CT",)).read(path)
    assert np.array_equal(found.data[0], values - 1024)
    assert found.meta == {"path": str(path), "units": "HU"}
    assert found.geometry.source_header == {"bits": 16, "kvp": 120.0, "thickness_mm": 2.0, "window": [40.0, 400.0]}
    assert "SECRET" not in repr(found) + repr(dict(found.geometry.source_header))
    assert "Doe" not in repr(found)


def test_one_file_names_its_series_or_its_slice(tmp_path):
    volume = stored()
    ct_series(tmp_path, volume, (0, 0, 10), (0, 0, 2.5), order=[4, 2, 0, 3, 1])
    save(ct_slice(stored((9, 9), seed=3), SeriesInstanceUID="1.9"), tmp_path / "other.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = reader().read(tmp_path / "002.dcm")
        part = reader(dims=2).read(tmp_path / "002.dcm")
    assert np.array_equal(whole.data[0], volume - 1024)
    assert np.array_equal(part.data[0], volume[1] - 1024)
    assert np.allclose(part.geometry.affine @ [0, 0, 0, 1], [0, 0, 12.5, 1])
    assert np.allclose(whole.geometry.affine, [[0, 0, -1, 0], [0, -1, 0, 0], [2.5, 0, 0, 10], [0, 0, 0, 1]])
    with pytest.raises(UserError, match=r"holds 2 series: .*CT.*; name one of its files, or choose a series"):
        reader().read(tmp_path)


def test_slice_of_a_volume(tmp_path):
    volume = stored()
    ct_series(tmp_path, volume, (0, 0, 10), (0, 0, 2.5))
    with pytest.raises(UserError, match="expected a slice"):
        reader(dims=2).read(tmp_path)
    for choice, k in {"middle": 2, SliceAt(index=4): 4, SliceAt(superior_mm=13.0): 1}.items():
        found = reader(dims=2, volume=choice).read(tmp_path)
        assert np.array_equal(found.data[0], volume[k] - 1024)
        assert found.geometry.affine[2, 3] == 10 + 2.5 * k
        assert found.geometry.orientation == "PL"


def test_slice_with_most_of_a_mask_of_another_grid(tmp_path):
    volume = stored((6, 6, 6))
    (tmp_path / "scan").mkdir()
    ct_series(tmp_path / "scan", volume, (0, 0, 10), (0, 0, 2.5))
    place = centred((12, 12, 12), (2.0, 2.0, 2.0), "RAS")  # heights -11 to 11 mm
    data = np.zeros((12, 12, 12), np.float32)
    data[2:4, 2:4, 11] = 1  # 11 mm: nearest to slice 0 at 10 mm
    data[5, 5, 10] = 1
    from core.types import Provenance

    said = Provenance(model="toy", recipe="r", seed=1)
    sample = Sample(modality="m", data=data[None], geometry=place)
    NiftiWriterConfig().build().write(sample, tmp_path / "scan_mask.nii.gz", said)
    choice = SliceAt(mask="{name}_mask.nii.gz")
    assert reader(dims=2, volume=choice).read(tmp_path / "scan").geometry.source_header["slice"] == 0
    NiftiWriterConfig().build().write(
        Sample(modality="m", data=data[None] * 0, geometry=place), tmp_path / "scan_empty.nii.gz", said
    )
    with pytest.raises(UserError, match=r"scan_empty\.nii\.gz: marks no point inside"):
        reader(dims=2, volume=SliceAt(mask="{name}_empty.nii.gz")).read(tmp_path / "scan")
    with pytest.raises(UserError, match=r"none\.nii\.gz: no such file"):
        reader(dims=2, volume=SliceAt(mask="none.nii.gz")).read(tmp_path / "scan")
    nifti = NiftiReaderConfig(modality="m", dims=2, volume=SliceAt(superior_mm=6.8)).build()
    assert nifti.read(tmp_path / "scan_mask.nii.gz").geometry.source_header["slice"] == 9
    with pytest.raises(UserError, match=r"lie at -11 to 11 mm, volume\.superior_mm is 30"):
        NiftiReaderConfig(modality="m", dims=2, volume=SliceAt(superior_mm=30)).build().read(
            tmp_path / "scan_mask.nii.gz"
        )
    with pytest.raises(UserError, match=r"has slices 0 to 5, volume\.index is 6"):
        reader(dims=2, volume=SliceAt(index=6)).read(tmp_path / "scan")


def test_a_choice_of_slice_is_set_in_words():
    for given, meant in {"middle": "middle", "refuse": "refuse"}.items():
        assert SeriesReaderConfig.model_validate({"modality": "m", "volume": given}).volume == meant
    assert SeriesReaderConfig.model_validate({"modality": "m", "volume": {"index": 3}}).volume == SliceAt(index=3)
    for wrong in ("top", {}, {"index": 3, "superior_mm": 2.0}, {"index": -1}, {"superior_mm": float("nan")}):
        with pytest.raises(ValueError, match="volume"):
            SeriesReaderConfig.model_validate({"modality": "m", "volume": wrong})


def test_multi_frame(tmp_path):
    """Frames in any order; each has its own position and slope."""
    volume = stored((4, 5, 6))
    heights = [7.0, 1.0, 5.0, 3.0]
    slopes = [1, 2, 3, 4]
    dataset = enhanced(volume, [(3, 4, z) for z in heights], spacing=(0.5, 0.25), slopes=slopes)
    found = reader(units="HU", rescale="require").read(save(dataset, tmp_path / "a.dcm"))
    for k, frame in enumerate(np.argsort(heights)):
        assert np.array_equal(found.data[0, k], volume[frame] * np.float32(slopes[frame]) - 1024)
    assert np.allclose(found.geometry.affine, [[0, 0, -0.25, -3], [0, -0.5, 0, -4], [2, 0, 0, 1], [0, 0, 0, 1]])
    assert reader(dims=2, volume="middle").read(tmp_path / "a.dcm").data.shape == (1, 5, 6)
    one = enhanced(volume[:1], [(3, 4, 5)])
    assert reader(dims=2).read(save(one, tmp_path / "one.dcm")).data.shape == (1, 5, 6)
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:3]
    with pytest.raises(UserError, match="holds 4 frames and states the places of 3"):
        reader().read(save(dataset, tmp_path / "b.dcm"))
    plain = ct_slice(volume, NumberOfFrames=4)
    with pytest.raises(UserError, match="holds 4 frames and states the places of 0"):
        reader().read(save(plain, tmp_path / "c.dcm"))


def test_parts_of_a_multi_frame_image(tmp_path):
    volume = stored((4, 5, 6))
    for part in (0, 1):
        own = slice(2 * part, 2 * part + 2)
        dataset = enhanced(volume[own], [(0, 0, 2.0 * k) for k in range(4)][own], InConcatenationTotalNumber=2)
        save(dataset, tmp_path / f"{part}.dcm")
    assert np.array_equal(reader().read(tmp_path).data[0], volume - 1024)
    with pytest.raises(UserError, match=r"1\.dcm: is one of 2 parts of a multi-frame image; name the folder"):
        reader().read(tmp_path / "1.dcm")


def test_a_folder_is_a_file_of_a_study(tmp_path):
    """What a run keeps of its data knows when a slice has changed."""
    from core.contract.modality import Parts
    from core.data.studies import Studies
    from core.types import DataSpec, Record

    ct_series(tmp_path, stored(), (0, 0, 0), (0, 0, 2.5))
    parts = Parts(data=DataSpec(kind="grid", space=(5, 6, 7)), reader=SeriesReaderConfig(modality="m"))
    record = Record(patient="p", study="s", files={"m": (tmp_path,)})

    def fingerprint():
        return Studies([record], [("m",)], {"m": parts}).fingerprint("m")

    first = fingerprint()
    assert first == fingerprint()
    save(ct_slice(stored((6, 7), seed=4)), tmp_path / "002.dcm")
    assert fingerprint() != first


def test_padding_is_the_lowest_value_that_is_none(tmp_path):
    """GE writes -2000 outside the field; written unsigned, and by Implicit VR, it is the same number."""
    values = stored((3, 4)) + np.int16(10)
    values[0] = -2000
    for number, tags in enumerate([{}, {"PixelPaddingRangeLimit": -1990}]):
        dataset = ct_slice(values, **tags)
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        for syntax, implicit in [("1.2.840.10008.1.2.1", False), ("1.2.840.10008.1.2", True)]:
            path = save(dataset, tmp_path / f"{number}{implicit}.dcm", syntax, implicit)
            found = reader(dims=2).read(path).data[0]
            assert (found[0] == values[1:].min() - 1024).all()
            assert np.array_equal(found[1:], values[1:] - 1024)
    dataset = ct_slice(values)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    assert reader(dims=2).read(save(dataset, tmp_path / "u.dcm")).data.min() == values[1:].min() - 1024
    values[1, 1] = -3000
    dataset = ct_slice(values)
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    with pytest.warns(MedWeaveWarning, match=r"amid\.dcm: its PixelPaddingValue lies amid"):
        found = reader(dims=2).read(save(dataset, tmp_path / "amid.dcm"))
    assert np.array_equal(found.data[0], values - 1024)
    dataset = ct_slice(np.full((3, 4), -2000, np.int16))
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    with pytest.raises(UserError, match="nothing but padding"):
        reader(dims=2).read(save(dataset, tmp_path / "all.dcm"))


def test_magnetic_resonance(tmp_path):
    values = stored((4, 5))
    plain = ct_slice(values, SOPClassUID=MR, Modality="MR", RescaleSlope=None, RescaleIntercept=None)
    assert np.array_equal(reader(dims=2, kinds=("MR",)).read(save(plain, tmp_path / "a.dcm")).data[0], values)
    scaled = put(plain, RescaleSlope="0.25", RescaleIntercept="1.5")
    assert np.array_equal(reader(dims=2).read(save(scaled, tmp_path / "b.dcm")).data[0], values * 0.25 + 1.5)
    with pytest.raises(UserError, match=r"b\.dcm: its Modality is MR, expected CT"):
        reader(dims=2, kinds=("CT",)).read(tmp_path / "b.dcm")
    with pytest.raises(UserError, match="MONOCHROME1"):
        reader(dims=2).read(save(put(plain, PhotometricInterpretation="MONOCHROME1"), tmp_path / "c.dcm"))


WRONG_VALUES = {
    "no rescale": ({"RescaleSlope": None, "RescaleIntercept": None}, "states no RescaleSlope and RescaleIntercept"),
    "half": ({"RescaleSlope": None}, "only one of RescaleSlope"),
    "type": ({"RescaleType": "US"}, "states RescaleType US, so its numbers are not in HU"),
    "zero slope": ({"RescaleSlope": 0}, "RescaleSlope 0 with intercept -1024 is none"),
    "no position": ({"ImagePositionPatient": None}, "states no ImagePositionPatient"),
    "no cosines": ({"ImageOrientationPatient": None}, "states no ImageOrientationPatient"),
    "no spacing": ({"PixelSpacing": None}, "states no PixelSpacing"),
    "zero spacing": ({"PixelSpacing": [0, 1]}, "expected lengths above 0 mm"),
    "negative spacing": ({"PixelSpacing": [1, -1]}, "expected lengths above 0 mm"),
    "two cosines": ({"ImageOrientationPatient": [1, 0, 0, 0, 1]}, "expected 6 finite numbers"),
    "slant": ({"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]}, "no pair of unit vectors"),
    "same twice": ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no pair of unit vectors"),
    "far": ({"ImagePositionPatient": [1e9, 0, 0]}, "beyond any patient"),
    "localizer": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "is a localizer"),
    "burned in": ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation"),
    "positron": ({"Modality": "PT"}, "its Modality is PT, expected CT"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "holds PALETTE COLOR with 1 number"),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_what_one_slice_must_say(tmp_path, case):
    tags, message = WRONG_VALUES[case]
    path = save(put(ct_slice(stored((4, 5))), **tags), tmp_path / "a.dcm")
    with pytest.raises(UserError, match=message) as caught:
        reader(dims=2, units="HU", rescale="require", kinds=("CT",)).read(path)
    assert str(path) in str(caught.value)


WRONG_SERIES = {
    "size": ({"Rows": 6, "PixelData": bytes(84)}, "another size than"),
    "spacing": ({"PixelSpacing": [1.0, 1.1]}, "another pixel spacing than"),
    "direction": ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "another orientation than"),
    "copy": ({"ImagePositionPatient": [0, 0, 2.5]}, "lie at one place"),
    "echo": ({"ImagePositionPatient": [0, 0, 2.5], "EchoTime": "30"}, r"lie at one place \(they differ in EchoTime\)"),
    "uneven": ({"ImagePositionPatient": [0, 0, 5.6]}, "lie unevenly or not on one line"),
    "aside": ({"ImagePositionPatient": [3, 0, 5]}, "lie unevenly or not on one line"),
    "frame": ({"FrameOfReferenceUID": "1.2.3.66"}, r"002\.dcm has another FrameOfReferenceUID than 000"),
    "no position": ({"ImagePositionPatient": None}, r"002\.dcm: states no ImagePositionPatient"),
}


@pytest.mark.parametrize("case", WRONG_SERIES)
def test_what_slices_must_share(tmp_path, case):
    tags, message = WRONG_SERIES[case]
    ct_series(tmp_path, stored((5, 5, 7)), (0, 0, 0), (0, 0, 2.5), order=range(5))
    dataset = pydicom.dcmread(tmp_path / "002.dcm")
    if "Rows" in tags:
        dataset.PixelData = tags["PixelData"]
    put(dataset, **tags).save_as(tmp_path / "002.dcm")
    with pytest.raises(UserError, match=message) as caught:
        reader().read(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_gaps(tmp_path):
    volume = stored((9, 4, 4))
    ct_series(tmp_path, volume, (0, 0, 0), (0, 0, 2.5), order=range(9))
    (tmp_path / "003.dcm").unlink()
    with pytest.raises(
        UserError, match=r"5 mm between 002\.dcm and 004\.dcm, 2\.5 mm between others \(1 such gap in 8"
    ):
        reader().read(tmp_path)
    with pytest.warns(MedWeaveWarning, match="the longest run of 5 slices is read"):
        found = reader(gaps="longest").read(tmp_path)
    assert np.array_equal(found.data[0], volume[4:] - 1024)
    assert found.geometry.affine[2, 3] == 10


def test_localizers_are_left_out_with_a_word(tmp_path):
    ct_series(tmp_path, stored(), (0, 0, 0), (0, 0, 2.5))
    scout = ct_slice(stored((9, 9)), cosines=(0, 1, 0, 0, 0, -1), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save(scout, tmp_path / "scout.dcm")
    with pytest.warns(MedWeaveWarning, match=r"left out 1 localizers of the series: scout\.dcm"):
        assert reader().read(tmp_path).data.shape == (1, 5, 6, 7)


def test_a_series_of_scouts_beside_the_scan_does_not_lose_the_study(tmp_path):
    ct_series(tmp_path, stored(), (0, 0, 0), (0, 0, 2.5))
    image_type = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    for number in range(2):
        scout = ct_slice(stored((9, 9), seed=number), SeriesInstanceUID="1.9", SeriesNumber="1", ImageType=image_type)
        save(scout, tmp_path / f"scout{number}.dcm")
    with pytest.warns(MedWeaveWarning, match=r"left out 1 other series: 1 \(CT, .*2 files, e\.g\. scout0\.dcm\)"):
        assert reader().read(tmp_path).data.shape == (1, 5, 6, 7)
    with pytest.raises(UserError, match="holds 2 series"):
        reader(localizers=True).read(tmp_path)


@pytest.mark.parametrize(
    ("choice", "slices"),
    [("most_slices", 5), ({"number": 7}, 3), ({"description": "*ARTERIAL*"}, 3), ({"description": "thin"}, 5)],
)
def test_one_of_several_series_is_chosen(tmp_path, choice, slices):
    two_series(tmp_path)
    with pytest.warns(MedWeaveWarning, match="left out 1 other series"):
        assert len(reader(series=choice).read(tmp_path).data[0]) == slices


@pytest.mark.parametrize("choice", ["only", {"number": 9}, {"description": "*"}])
def test_a_choice_that_means_none_or_several_lists_them(tmp_path, choice):
    two_series(tmp_path)
    with pytest.raises(UserError, match=r"holds 2 series.*3 \(CT, Thin, 5 files.*7 \(CT, Arterial phase, 3 files"):
        reader(series=choice).read(tmp_path)


def test_a_series_is_named_in_one_way():
    with pytest.raises(ValueError, match="a series is 'only', 'most_slices' or a table with number"):
        reader(series={"number": 3, "description": "x"})


def two_series(folder):
    for number, description, uid, slices in ((3, "Thin", "1.3", 5), (7, "Arterial phase ", "1.7", 3)):
        for index in range(slices):
            one = ct_slice(
                stored((6, 7), seed=index), ImagePositionPatient=[0, 0, 2.5 * index], SeriesInstanceUID=uid,
                SeriesNumber=str(number), SeriesDescription=description,
            )  # fmt: skip
            save(one, folder / f"{number}-{index}.dcm")


def test_what_lies_beside_a_series(tmp_path):
    ct_series(tmp_path, stored(), (0, 0, 0), (0, 0, 2.5))
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "DICOMDIR").write_bytes(b"x")
    (tmp_path / "below").mkdir()
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe.dcm")
    with pytest.warns(MedWeaveWarning, match=r"left out what is no DICOM image \(1\): notes\.txt"):
        assert reader().read(tmp_path).data.shape == (1, 5, 6, 7)
    (tmp_path / "half.dcm").write_bytes(b"")
    with pytest.raises(UserError, match=r"half\.dcm: the file is empty"):
        reader().read(tmp_path)
    with pytest.raises(UserError, match=r"holds no DICOM image; name a folder"):
        reader().read(tmp_path / "below")
    for name, message in {"loop": "no such file", "none": "no such file", "pipe.dcm": "file is empty"}.items():
        with pytest.raises(UserError, match=message):
            reader().read(tmp_path / name)
    with pytest.raises(UserError, match="max_files = 3"):
        reader(max_files=3).read(tmp_path)


@pytest.fixture
def nobody():
    """A folder that everybody may enter, and nobody's rights: root may read everything."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        was = os.geteuid()
        try:
            yield Path(name), (lambda: os.seteuid(65534)) if was == 0 else (lambda: None)
        finally:
            os.seteuid(was)
            (Path(name) / "closed").chmod(0o700)


def test_a_folder_and_a_file_without_permission(nobody):
    folder, become = nobody
    path = save(ct_slice(stored((4, 5))), folder / "a.dcm")
    path.chmod(0o000)
    (folder / "closed").mkdir(mode=0o000)
    bare = path.rename(folder / "1.2.840")  # one that no suffix gives away is not taken for something else
    become()
    for named, closed in {folder / "closed": folder / "closed", bare: bare, folder: bare}.items():
        with pytest.raises(UserError, match="cannot be opened: Permission denied") as caught:
            reader(dims=2).read(named)
        assert str(closed) in str(caught.value)


def test_one_slice_as_a_volume(tmp_path):
    path = save(ct_slice(stored((4, 5)), (0, 0, 7)), tmp_path / "a.dcm")
    assert reader().read(path).geometry.spacing_mm == (2.0, 1.0, 1.0)
    save(ct_slice(stored((4, 5)), SliceThickness=None), path)
    with pytest.raises(UserError, match="states no thickness is no volume"):
        reader().read(path)


@pytest.mark.parametrize("dims", [2, 3])
def test_what_medweave_wrote_comes_back(tmp_path, provenance, dims):
    shape = (4, 5, 6)[-dims:]
    place = centred(shape, (2.0, 0.5, 0.25)[-dims:], "SPL"[-dims:])
    data = np.random.default_rng(0).integers(-1000, 1000, (1, *shape)).astype(np.float32)
    path = tmp_path / ("scan" if dims == 3 else "scan.dcm")
    written = Sample(modality="m", data=data, geometry=place)
    DicomSeriesWriterConfig(kind="CT", dims=dims, units="HU").build().write(written, path, provenance)
    found = reader(dims=dims, units="HU", rescale="require").read(path)
    assert np.array_equal(found.data, data)
    assert found.geometry == place
    assert found.meta["synthetic"] is True
    if dims == 3:
        part = reader(dims=2).read(sorted(path.iterdir())[1])
        assert np.array_equal(part.data[0], data[0, 1])
        assert np.allclose(part.geometry.affine @ [0, 0, 0, 1], place.affine @ [1, 0, 0, 1])


def test_limits_come_before_pixels(tmp_path):
    ct_series(tmp_path, stored((3, 40, 50)), (0, 0, 0), (0, 0, 2.5))
    with pytest.raises(UserError, match="more than max_megavoxels"):
        reader(max_megavoxels=0.005).read(tmp_path)


def test_an_image_of_no_series(tmp_path):
    path = save(image(stored((4, 5)), SOPClassUID="1.2", Modality="CT"), tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"a\.dcm: states no SeriesInstanceUID"):
        reader().read(path)


def cut_short(path, left):
    """Of a file so many of its first bytes are left, or all but its Rows."""
    if left == "all but Rows":
        put(pydicom.dcmread(path), Rows=None).save_as(path)
    else:
        path.write_bytes(path.read_bytes()[:left])


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize("name", ["002", "004"])
@pytest.mark.parametrize("left", [0, 100, 132, 400, 500, 700, "all but Rows"])
def test_a_slice_that_was_cut_is_named(tmp_path, left, name, by_file):
    """In the middle of a series and at its end, where nothing else shows that it is missing."""
    ct_series(tmp_path, stored(), (0, 0, 0), (0, 0, 2.5), order=range(5))
    for path in tmp_path.iterdir():
        path.rename(path.with_suffix(""))
    cut_short(tmp_path / name, left)
    with pytest.raises(UserError, match=rf"/{name}: ") as caught:
        reader().read(tmp_path / "001" if by_file else tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("by_file", [False, True])
def test_wherever_a_file_is_cut_the_last_slice_is_missed(tmp_path, by_file):
    ct_series(tmp_path, stored((3, 4, 4)), (0, 0, 0), (0, 0, 2.5), order=range(3))
    last = (tmp_path / "002.dcm").rename(tmp_path / "002")
    whole = last.read_bytes()
    for left in range(0, len(whole), 11):
        last.write_bytes(whole[:left])
        with pytest.raises(UserError, match="002"):
            reader().read(tmp_path / "001.dcm" if by_file else tmp_path)


@pytest.mark.parametrize("by_file", [False, True])
def test_a_cut_slice_of_another_series_does_not_stop_a_named_file(tmp_path, by_file):
    ct_series(tmp_path, stored(), (0, 0, 0), (0, 0, 2.5), order=range(5))
    save(ct_slice(stored((4, 4)), SeriesInstanceUID="1.9", Rows=None), tmp_path / "other.dcm")
    if by_file:
        assert reader().read(tmp_path / "001.dcm").data.shape == (1, 5, 6, 7)
    else:
        with pytest.raises(UserError, match=r"other\.dcm: states CT Image Storage and no Rows"):
            reader().read(tmp_path)


def test_what_is_no_dicom_stays_harmless(tmp_path):
    ct_series(tmp_path, stored(), (0, 0, 0), (0, 0, 2.5))
    for name in (".DS_Store", "Thumbs.db", "._000.dcm", ".nomedia", "Icon\r"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "done.txt").write_bytes(b"")
    (tmp_path / "README").write_text("a word")
    report = put(pydicom.Dataset(), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", SeriesInstanceUID="1.2.3.5")
    save(report, tmp_path / "report")
    with pytest.warns(MedWeaveWarning, match=r"no DICOM image \(4\): \.nomedia, README, done\.txt, report") as told:
        assert reader().read(tmp_path).data.shape == (1, 5, 6, 7)
    assert len(told) == 1


def test_files_of_no_series_are_one_with_a_word(tmp_path):
    ct_series(tmp_path, stored(), (0, 0, 0), (0, 0, 2.5), SeriesInstanceUID=None)
    with pytest.warns(MedWeaveWarning, match="state no SeriesInstanceUID and are taken for one series") as told:
        assert reader().read(tmp_path).data.shape == (1, 5, 6, 7)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("values", "bits", "stray"),
    [
        (np.array([[0, 200, 1000, 255]], np.uint16), 8, 1),
        (np.array([[-2048, -1, 0, 2047]], np.int16), 12, 0),  # a sign may go through to the highest bit
        (np.array([[0x0800, 0x0FFF, 0, 2047]], np.int16), 12, 0),  # or end with the bits that are stored
        (np.array([[-2049, 2048 + 4096, 0, 5]], np.int16), 12, 2),
    ],
)
@pytest.mark.parametrize("little", [True, False])
def test_bits_that_belong_to_no_value_are_told_of(tmp_path, values, bits, stray, little):
    dataset = ct_slice(values if little else values.byteswap(), BitsStored=bits, HighBit=bits - 1)
    syntax = pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian
    save(dataset, tmp_path / "a.dcm", syntax=syntax, little=little)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        reader(dims=2).read(tmp_path / "a.dcm")
    found = [str(one.message) for one in told if "beyond BitsStored" in str(one.message)]
    assert len(found) == bool(stray)
    assert all(f"{stray} pixels have bits beyond BitsStored {bits}" in one for one in found)


def test_stray_bits_of_a_series_are_one_warning(tmp_path):
    ct_series(tmp_path, stored() + 3000, (0, 0, 0), (0, 0, 2.5), BitsStored=10, HighBit=9)
    with pytest.warns(MedWeaveWarning, match=r"beyond BitsStored 10.* \(and 4 more\)$") as told:
        reader().read(tmp_path)
    assert len(told) == 1
