"""Pictures in one array of an `.npz`: each by its number, and no file that lies about its size takes memory."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.data.fingerprint import content_hash_or_zero, file_fingerprint
from core.errors import UserError
from core.io import (
    AnyFormatReaderConfig,
    ImageReaderConfig,
    NiftiReaderConfig,
    RadiographReaderConfig,
    SegmentationReaderConfig,
    SeriesReaderConfig,
    TextReaderConfig,
)
from core.types import ArchiveMember, FileRef, Record, file_ref, path_on_disk

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 6, 8, 3), np.uint8)
GREY = RNG.integers(0, 65536, (4, 6, 8), np.uint16)


def reader(**options):
    return ImageReaderConfig(modality="m", orientation="IL", **options).build()


def fault(path, **options):
    with pytest.raises(UserError) as caught:
        reader(**options).read(path)
    message = str(caught.value)
    assert str(path).partition("#")[0] in message
    assert "\n" not in message
    return message


def npy(header, data, version=b"\x01\x00"):
    text = (str(header) + "\n").encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


def archive(path, entries):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def header(shape, descr="|u1"):
    return {"descr": descr, "fortran_order": False, "shape": shape}


def test_each_picture_by_its_number(folder):
    np.savez_compressed(folder / "images.npz", images=COLOUR, labels=np.arange(5))
    for number in (3, 0, 4):
        result = reader(channels=3, value_range=(0, 1)).read(folder / f"images.npz#{number}")
        assert np.allclose(result.data, np.moveaxis(COLOUR[number], -1, 0) / 255, atol=1e-7)
        assert result.geometry.shape == (6, 8)
    scan = AnyFormatReaderConfig(image=ImageReaderConfig(modality="m", orientation="IL", channels=3)).build()
    assert np.array_equal(scan.read(folder / "images.npz#1").data, np.moveaxis(COLOUR[1], -1, 0))


def test_grey_of_16_bits_and_of_a_single_channel(folder):
    np.savez(folder / "a.npz", GREY)
    assert np.array_equal(reader().read(folder / "a.npz#2").data[0], GREY[2])
    np.savez(folder / "b.npz", COLOUR[..., :1])
    assert np.array_equal(reader().read(folder / "b.npz#2").data[0], COLOUR[2, ..., 0])
    assert "is grey, expected colour" in fault(folder / "b.npz#2", channels=3)


def test_of_several_arrays_the_path_names_the_array(folder):
    np.savez(folder / "a.npz", train_images=COLOUR, val_images=COLOUR[::-1], val_labels=np.arange(5))
    result = reader(channels=3).read(folder / "a.npz#val_images:0")
    assert np.array_equal(result.data, np.moveaxis(COLOUR[4], -1, 0))
    assert "holds 2 arrays of pictures (of train_images, val_images, val_labels)" in fault(folder / "a.npz#0")
    assert "holds no array 'test_images'" in fault(folder / "a.npz#test_images:0")


def test_a_file_that_was_replaced_is_read_again(folder):
    for value in (10, 20):
        np.savez(folder / "a.npz", np.full((2 + value, 6, 8), value, np.uint8))
        assert reader().read(folder / "a.npz#1").data.max() == value


def test_the_message_names_the_fault(folder):
    np.savez(folder / "a.npz", COLOUR)
    np.savez(folder / "floats.npz", COLOUR.astype(np.float32))
    np.savez(folder / "none.npz", np.arange(5))
    np.savez(folder / "objects.npz", np.array([{}] * 3, dtype=object).reshape(3, 1, 1))
    (folder / "cut.npz").write_bytes((folder / "a.npz").read_bytes()[:-200])
    (folder / "empty.npz").write_bytes(b"")
    assert "numbered 0 to 4" in fault(folder / "a.npz#5")
    assert "name one of them, as in a.npz#0" in fault(folder / "a.npz")
    assert "float32 of shape (5, 6, 8, 3)" in fault(folder / "floats.npz#0")
    assert "holds 0 arrays of pictures" in fault(folder / "none.npz#0")
    assert "object of shape" in fault(folder / "objects.npz#0")
    assert "cannot be read as a picture" in fault(folder / "cut.npz#0")
    assert "empty (0 bytes)" in fault(folder / "empty.npz#0")
    assert "no such file" in fault(folder / "missing.npz#0")


def test_lying_headers_take_no_memory(folder):
    data = COLOUR.tobytes()
    lies = {
        "more": header((10**9, 6, 8, 3)),
        "less": header((1, 6, 8, 3)),
        "negative": header((-5, -6, 8, 3)),
        "none": header((0, 6, 8, 3)),
        "overflow": header((2**40, 2**40, 8)),
    }
    for name, lie in lies.items():
        path = archive(folder / f"{name}.npz", {"a.npy": npy(lie, data)})
        assert "bytes are there" in fault(Path(f"{path}#0"), channels=3)
    for version in (b"\x02\x00", b"\x07\x00"):
        bomb = archive(folder / "version.npz", {"a.npy": npy(header((5, 6, 8, 3)), data, version)})
        assert f"version ({version[0]}, 0)" in fault(Path(f"{bomb}#0"))


def test_mutations_are_refused_or_read(folder):
    """Bytes changed, cut out and repeated: a picture or one line, never anything else."""
    file = io.BytesIO()
    np.savez_compressed(file, images=COLOUR)
    plain = io.BytesIO()
    np.savez(plain, images=COLOUR)
    rng, read, message, path = np.random.default_rng(1), 0, list[str](), folder / "a.npz"
    built = reader(channels=3)
    for number in range(1500):
        content = bytearray((file if number % 2 else plain).getvalue())
        for _ in range(int(rng.integers(1, 4))):
            geometry = int(rng.integers(len(content)))
            if rng.random() < 0.7:
                content[geometry] = int(rng.integers(256))
            else:
                del content[geometry : geometry + int(rng.integers(1, 40))]
        path.write_bytes(content)
        try:
            result = built.read(folder / "a.npz#1")
        except UserError as error:
            message.append(str(error))
        else:
            assert result.data.dtype == np.float32
            read += 1
    assert 10 < read < 1400
    assert all("a.npz" in line and "\n" not in line for line in message)


def test_the_text_form_of_a_reference_is_read_and_written():
    assert file_ref(Path("a/x.npz#12")) == FileRef(Path("a/x.npz"), ArchiveMember(None, 12))
    assert file_ref(Path("a/x.NPZ#val_images:0")) == FileRef(Path("a/x.NPZ"), ArchiveMember("val_images", 0))
    for text in ("a/x.npz#12", "a/x.npz#val_images:0"):
        assert str(file_ref(Path(text))) == text
        assert path_on_disk(file_ref(Path(text))) == Path("a/x.npz")
    for plain in ("a/x.npz", "a/x.png#1", "a/x.npz#", "a/x.npz#-1", "a/x.npz#one"):
        assert file_ref(Path(plain)) == path_on_disk(Path(plain)) == Path(plain)


def test_a_record_makes_references_of_an_adapters_paths():
    record = Record(patient="p", study="s", files={"photo": (Path("a.npz#3"), Path("b.png"))})
    assert record.files == {"photo": (FileRef(Path("a.npz"), ArchiveMember(None, 3)), Path("b.png"))}


def test_a_reference_is_read_as_its_text_form_is(folder):
    np.savez(folder / "a.npz", COLOUR)
    text = folder / "a.npz#2"
    item, other = reader(channels=3).read(text), reader(channels=3).read(file_ref(text))
    assert np.array_equal(item.data, other.data)
    assert item.meta == other.meta


def test_pictures_of_the_same_archive_differ(folder):
    np.savez(folder / "a.npz", COLOUR)
    item, two = file_ref(folder / "a.npz#0"), file_ref(folder / "a.npz#1")
    assert content_hash_or_zero(item) != content_hash_or_zero(two)
    before = content_hash_or_zero(item), file_fingerprint(item)
    np.savez(folder / "a.npz", COLOUR[::-1])
    assert content_hash_or_zero(item) != before[0]
    assert file_fingerprint(item) != before[1]
    assert file_fingerprint(file_ref(folder / "b.npz#0")) == file_fingerprint(
        file_ref(folder / "c.npz#0")
    )  # both are missing


@pytest.mark.parametrize(
    "config",
    [
        NiftiReaderConfig(modality="m"),
        SeriesReaderConfig(modality="m"),
        RadiographReaderConfig(modality="m", orientation="IL"),
        SegmentationReaderConfig(modality="m"),
        TextReaderConfig(modality="m"),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_reader_of_files_refuses_a_picture_in_an_archive(config, folder):
    with pytest.raises(UserError, match=r"images\.npz#1: is a picture in an archive, and this reader reads files"):
        config.build().read(file_ref(folder / "images.npz#1"))
