"""Broken, lying and foreign DICOM files: one line that names the file, before memory is spent."""

import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from core.errors import MedWeaveWarning, UserError
from core.io import RadiographReaderConfig, SeriesReaderConfig
from core.io.dicom.instance import stated_size
from tests.unit.io.dicom.dicom_files import cr, ct_slice, enhanced, put, save

SLICE = SeriesReaderConfig(modality="m", dims=2, localizers=True).build()
RADIOGRAPH = RadiographReaderConfig(modality="m", orientation="IL", kinds=()).build()
STORED = np.random.default_rng(0).integers(0, 2000, (40, 30), dtype=np.int16)


def refused(path, reader=SLICE):
    with pytest.raises(UserError) as caught:
        reader.read(path)
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line


FOREIGN = {
    "ExplVR_BigEnd": "holds RGB with 3 numbers per pixel",
    "ExplVR_LitEndNoMeta": "looks like DICOM without its preamble",
    "rtstruct": "looks like DICOM without its preamble",
    "no_meta": "is no DICOM file",
    "meta_missing_tsyntax": "states no transfer syntax",
    "image_dfl": "is deflated as a whole",
    "MR_truncated": "has 8130 bytes of pixels, and its header states 8192",
    "badVR": "NumberOfFrames is 1A",
    "rtdose": "stores 32 bits per pixel",
    "liver_1frame": "stores 1 bits per pixel",
    "rtplan": r"holds no image \(RT Plan Storage\)",
    "test-SR": r"holds no image \(Comprehensive SR Storage\)",
    "waveform_ecg": "holds no image",
    "examples_palette": "holds PALETTE COLOR with 1 number per pixel",
    "SC_ybr_full_422_uncompressed": "holds YBR_FULL_422",
    "SC_rgb_jpeg": "holds RGB",
    "JPGExtended": "states no ImagePositionPatient, ImageOrientationPatient, so its place is unknown",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_pydicom_that_are_refused(name):
    with pytest.raises(UserError, match=FOREIGN[name]):
        SLICE.read(Path(get_testdata_file(f"{name}.dcm", download=False)))


def outcome(reader, path):
    """The sample, or the one line in its place."""
    try:
        return reader.read(path)
    except UserError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::core.errors.MedWeaveWarning")
def test_every_file_of_pydicom_is_a_sample_or_one_line():
    """All of them, through both readers."""
    folder = Path(get_testdata_file("CT_small.dcm", download=False)).parent
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 400_000)
    assert len(files) > 80
    num_read = 0
    for path in files:
        for reader in (SLICE, RADIOGRAPH):
            found = outcome(reader, path)
            if isinstance(found, str):
                assert path.name in found
                continue
            assert np.isfinite(found.data).all()
            assert found.data.shape[1:] == found.geometry.shape
            num_read += 1
    assert num_read > 30


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_at_every_tenth(tmp_path, compressed):
    whole = save(ct_slice(STORED), tmp_path / "whole.dcm")
    if compressed:
        dataset = pydicom.dcmread(whole)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(whole)
    content = whole.read_bytes()
    for tenth in range(10):
        path = tmp_path / f"cut{tenth}.dcm"
        path.write_bytes(content[: len(content) * tenth // 10])
        assert path.name in refused(path)
    path.write_bytes(content[: -30 if compressed else -1])  # the last 8 of compressed pixels only end them
    assert path.name in refused(path)


LIES = {
    "more rows": ({"Rows": 41}, "has 2400 bytes of pixels, and its header states 2460"),
    "half the rows": ({"Rows": 20}, "1200 more than its header states"),
    "all the rows": ({"Rows": 65535, "Columns": 65535}, "states 1 x 65535 x 65535 pixels, more than the limit"),
    "frames": ({"NumberOfFrames": 2_000_000_000}, "more than the limit"),
    "some frames": ({"NumberOfFrames": 700}, "states the places of 0"),
    "no frames": ({"NumberOfFrames": 0}, "NumberOfFrames is 0, expected a whole number from 1"),
    "no rows": ({"Rows": 0}, "Rows is 0, expected a whole number from 1 to 65535"),
    "no bits": ({"BitsAllocated": None}, "BitsAllocated is missing"),
    "bits": ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, "1200 more than its header states"),
    "more bits": ({"BitsStored": 17}, "BitsStored is 17, expected a whole number from 1 to 16"),
    "samples": ({"SamplesPerPixel": 3}, "with 3 numbers per pixel"),
    "no pixels": ({"PixelData": None}, "holds no pixels"),
    "half a pixel": ({"PixelRepresentation": 2}, "PixelRepresentation is 2"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_lying_header_costs_no_memory(tmp_path, case):
    tags, message = LIES[case]
    path = save(put(ct_slice(STORED), **tags), tmp_path / "a.dcm")
    RADIOGRAPH.config  # built before memory is watched  # noqa: B018
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message):
            SLICE.read(path)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("element", [b"\xe0\x7f\x10\x00OW\x00\x00", b"\x02\x00\x01\x00OB\x00\x00"])
@pytest.mark.filterwarnings("ignore::core.errors.MedWeaveWarning")
def test_lengths_beyond_the_file_cost_no_memory(tmp_path, element):
    """An element that states 4 GB: Python would make room for them before it reads."""
    content = bytearray(save(ct_slice(STORED), tmp_path / "a.dcm").read_bytes())
    place = content.index(element) + len(element)
    content[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    (tmp_path / "b.dcm").write_bytes(content)
    tracemalloc.start()
    try:
        found = outcome(SLICE, tmp_path / "b.dcm")
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()
    if element[0] == 0xE0:  # all its pixels are there
        assert np.array_equal(found.data[0], STORED - 1024)
    else:
        assert "b.dcm" in found


def test_floating_pixels(tmp_path):
    dataset = put(ct_slice(STORED), PixelData=None)
    dataset.FloatPixelData = STORED.astype(np.float32).tobytes()
    assert "holds floating-point pixels" in refused(save(dataset, tmp_path / "a.dcm"))


@pytest.mark.filterwarnings("ignore::core.errors.MedWeaveWarning")
def test_a_wrong_transfer_syntax(tmp_path):
    """Bytes of one encoding under the name of another."""
    good = save(ct_slice(STORED), tmp_path / "a.dcm")
    for uid in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"):
        content = bytearray(good.read_bytes())
        place, old = content.index(b"1.2.840.10008.1.2.1\0"), b"1.2.840.10008.1.2.1\0"
        # The group keeps its length: the element takes what it needs from a longer one.
        new = (uid + "\0" * (len(uid) % 2)).encode()
        content[place - 2 : place + len(old)] = len(new).to_bytes(2, "little") + new
        group = int.from_bytes(content[140:144], "little") + len(new) - len(old)
        content[140:144] = group.to_bytes(4, "little")
        path = tmp_path / f"{uid}.dcm"
        path.write_bytes(content)
        found = outcome(SLICE, path)
        assert str(path) in found if isinstance(found, str) else np.array_equal(found.data[0], STORED - 1024)


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.100"])
def test_a_decoder_that_is_not_there_is_named(tmp_path, monkeypatch, uid):
    from pydicom.encaps import encapsulate

    dataset = cr(STORED.astype(np.uint16))
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xc3\x00\x0b\x10\x00\x28\x00\x1e\x01\x01\x11\x00\xff\xd9\x00"])
    dataset["PixelData"].is_undefined_length = True
    from pydicom.pixels.decoders.base import Decoder

    monkeypatch.setattr(Decoder, "is_available", False)
    line = refused(save(dataset, tmp_path / "a.dcm", uid), RADIOGRAPH)
    assert (
        "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg" in line or "no pixels that can be decoded" in line
    )


def test_a_codestream_of_another_size_is_not_decoded(tmp_path):
    """A JPEG 2000 frame that says 60,000 x 60,000 where the header says 64 x 64."""
    source = Path(get_testdata_file("MR_small_jp2klossless.dcm", download=False))
    assert SLICE.read(source).data.shape == (1, 64, 64)
    content = bytearray(source.read_bytes())
    place = content.index(b"\xff\x4f\xff\x51") + 8
    content[place : place + 8] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "a.dcm").write_bytes(content)
    assert "compressed pixels state 60000 x 60000 pixels with 1 components" in refused(tmp_path / "a.dcm")


def test_sizes_that_codestreams_state():
    for name, size in {
        "JPGExtended": (1024, 256, 1),
        "MR_small_jpeg_ls_lossless": (64, 64, 1),
        "SC_rgb_jpeg": (256, 256, 3),
    }.items():
        dataset = pydicom.dcmread(get_testdata_file(f"{name}.dcm", download=False))
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        assert stated_size(frame) == size
    for broken in (
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xff\xff\xff\xff",
        b"\xff\x4f\xff\x51",
        b"hello",
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 9,
    ):
        assert stated_size(broken) is None


def test_frames_that_are_not_there(tmp_path):
    """Run-length frames: the header states three, the file has two."""
    dataset = enhanced(np.stack([STORED] * 2), [(0, 0, 0), (0, 0, 2)])
    path = save(dataset, tmp_path / "a.dcm")
    packed = pydicom.dcmread(path)
    packed.compress(pydicom.uid.RLELossless)
    packed.save_as(path)
    whole = SeriesReaderConfig(modality="m").build()
    assert whole.read(path).data.shape == (1, 2, 40, 30)
    packed.NumberOfFrames = 3
    packed.PerFrameFunctionalGroupsSequence.append(packed.PerFrameFunctionalGroupsSequence[0])
    packed.save_as(tmp_path / "b.dcm")
    assert "b.dcm" in refused(tmp_path / "b.dcm", whole)


def test_what_was_mended_is_told():
    path = Path(get_testdata_file("MR_small_padded.dcm", download=False))
    with pytest.warns(MedWeaveWarning, match=r"MR_small_padded\.dcm: read, but: .* 128 bytes of excess padding"):
        assert SLICE.read(path).data.shape == (1, 64, 64)


def test_paths_that_no_file_has(tmp_path):
    assert "no such file" in refused(tmp_path / "none.dcm")
    (tmp_path / "empty.dcm").write_bytes(b"")
    assert "empty (0 bytes)" in refused(tmp_path / "empty.dcm")
    with pytest.raises(UserError, match="NUL character"):
        SLICE.read(Path("a\0b.dcm"))
    with pytest.raises(UserError, match="cannot be opened: File name too long"):
        SLICE.read(tmp_path / ("a" * 300 + ".dcm"))


def test_nothing_that_names_a_patient_is_read(tmp_path):
    from core.io.dicom.instance import read_header

    header = read_header(save(cr(STORED.astype(np.uint16)), tmp_path / "a.dcm"))
    assert {"Rows", "ViewPosition"} <= {element.keyword for element in header.dataset}
    named = {"PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "StudyInstanceUID"}
    assert not named & {element.keyword for element in header.dataset}
