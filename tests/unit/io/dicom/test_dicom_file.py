"""A DICOM file is opened once, and what is taken from its bytes is what pydicom says of them."""

import builtins
import io
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pydicom
import pytest

from core.data.fingerprint import content_hash
from core.io import SeriesReaderConfig
from core.io.dicom import instance
from core.io.dicom.grayscale import layout_of, read_pixels
from core.io.dicom.instance import DicomFile, is_dicom, read_header, shared_content, shared_files
from tests.unit.io.dicom.dicom_files import ct_series, ct_slice, put, save

STORED = np.random.default_rng(0).integers(0, 2000, (4, 16, 14), dtype=np.int16)


@pytest.fixture
def opened(monkeypatch):
    """How often each file is opened, by its name."""
    counts, real = Counter(), io.open

    def counting(file, *args, **kwargs):
        counts[Path(str(file)).name] += 1
        return real(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", counting)
    monkeypatch.setattr(builtins, "open", counting)
    return counts


def test_a_series_is_read_with_one_opening_per_file(tmp_path, opened):
    ct_series(tmp_path, STORED, (0, 0, 0), (0, 0, 2.5), order=range(4))
    opened.clear()
    SeriesReaderConfig(modality="m").build().read(tmp_path)
    assert {name: num for name, num in opened.items() if name.endswith(".dcm")} == dict.fromkeys(
        ("000.dcm", "001.dcm", "002.dcm", "003.dcm"), 1
    )


def test_sniffing_header_pixels_and_hash_share_one_opening(tmp_path, opened):
    path = save(ct_slice(STORED[0]), tmp_path / "a.dcm")
    expected = int.from_bytes(blake2b(path.read_bytes(), digest_size=8).digest(), "big")
    opened.clear()
    with shared_files():
        assert is_dicom(path)
        header = read_header(path)
        assert np.array_equal(read_pixels(header, layout_of(header, 1))[0], STORED[0])
        assert content_hash(path) == expected
        assert read_header(path) is header
    assert opened["a.dcm"] == 1
    assert shared_content(path) is None
    assert content_hash(path) == expected


def test_what_has_no_room_is_read_again(tmp_path, monkeypatch):
    """Of a block of `shared_files` and of a series alike."""
    monkeypatch.setattr(instance, "HELD_BYTES", 0)
    monkeypatch.setattr("core.io.dicom.series_files.HELD_BYTES", 0)
    ct_series(tmp_path, STORED, (0, 0, 0), (0, 0, 2.5), order=range(4))
    with shared_files():
        sample = SeriesReaderConfig(modality="m").build().read(tmp_path)
        assert all(shared_content(path) is None for path in tmp_path.iterdir())
    assert np.array_equal(sample.data[0], STORED - 1024)


def test_a_large_file_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(instance, "_WHOLE", 200)
    file = DicomFile(save(ct_slice(STORED[0]), tmp_path / "a.dcm"))
    header = file.header
    assert file.content is None
    assert np.array_equal(read_pixels(header, layout_of(header, 1))[0], STORED[0])


PLAIN = {
    "16 bits": {},
    "12 bits, signed": {"BitsStored": 12, "HighBit": 11},
    "12 bits, unsigned": {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0},
    "8 bits, odd": {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "Columns": 27},
}


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("case", PLAIN)
@pytest.mark.filterwarnings("ignore")
def test_plain_pixels_are_those_that_pydicom_decodes(tmp_path, case, implicit):
    dataset = put(ct_slice(STORED[0]), **PLAIN[case])
    size = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    dataset.PixelData = (STORED.tobytes() * 2)[: size + size % 2]
    syntax = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
    path = save(dataset, tmp_path / "a.dcm", syntax, implicit)
    file = DicomFile(path)
    layout = layout_of(file.header, 1)
    assert file.plain_pixels(layout.num_bytes) is not None
    assert np.array_equal(read_pixels(file.header, layout)[0], pydicom.dcmread(path).pixel_array)


def test_pixels_that_another_element_follows_are_left_to_pydicom(tmp_path):
    dataset = ct_slice(STORED[0])
    dataset.add_new(0xFFFCFFFC, "OB", bytes(16))
    file = DicomFile(save(dataset, tmp_path / "a.dcm"))
    layout = layout_of(file.header, 1)
    assert file.plain_pixels(layout.num_bytes) is None
    assert np.array_equal(read_pixels(file.header, layout)[0], STORED[0])


VALUES = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", ""],
    "PixelSpacing": ["0.5", "+.75e0"],
    "SliceThickness": " 2.500 ",
    "Modality": "CT",
    "WindowCenter": ["40", "-600."],
    "Rows": 16,
}


@pytest.mark.parametrize("keyword", VALUES)
def test_words_are_those_of_pydicom(tmp_path, keyword):
    dataset = put(ct_slice(STORED[0]), **{keyword: VALUES[keyword]})
    path = save(dataset, tmp_path / "a.dcm")
    value = pydicom.dcmread(path)[keyword].value
    several = value if isinstance(value, pydicom.multival.MultiValue) else [value]
    expected = tuple(str(part).strip().upper() for part in several if str(part).strip())
    assert read_header(path).words(keyword) == expected
