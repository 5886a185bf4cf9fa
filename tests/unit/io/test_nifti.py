import gzip
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.errors import MedWeaveWarning, UserError
from core.io import (
    AnyFormatReaderConfig,
    ImageReaderConfig,
    NiftiReaderConfig,
    NiftiWriterConfig,
    SeriesReaderConfig,
    centred,
)
from core.types import Geometry, Sample

ROOT = Path(__file__).parents[3]
# Gantry tilt: a shear, which no rotation and so no qform can say.
SHEARED = np.array([[-0.7, 0.0, 0.0, 101.3], [0.0, 0.7, 0.4, -55.1], [0.0, 0.0, 3.1, 12.7], [0, 0, 0, 1]])
TURNED = centred((5, 7, 6), (0.3, 0.4, 2.1), "LPS").affine @ nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.1, -0.2, 0.05), [0, 0, 0]
)


def reader(**options):
    return NiftiReaderConfig(modality="m", **options).build()


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def volume(shape=(5, 7, 6), affine=None, **stored):
    data = np.random.default_rng(0).normal(0, 300, (1, *shape)).astype(np.float32)
    source = centred(shape, (0.3, 0.4, 2.1)[: len(shape)], "LPS"[: len(shape)], **stored)
    source = source if affine is None else Geometry(affine=affine, shape=shape, source_header=stored)
    return Sample(modality="m", data=data, geometry=source)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", [None, SHEARED, TURNED])
@pytest.mark.parametrize(("dtype", "step"), [("float32", 1.0), ("int16", 1.0), ("int16", 0.25)])
def test_round_trip_of_volumes(folder, provenance, suffix, affine, dtype, step):
    written = volume(affine=affine, kernel="B30f")
    writer = NiftiWriterConfig(dtype=dtype, step=step, suffix=suffix, units="HU").build()
    path = folder / f"ä{suffix}"
    writer.write(written, path, provenance)
    result = reader().read(path)
    assert result.data.dtype == np.float32
    assert np.abs(result.data - written.data).max() <= writer.tolerance + 1e-4 * (dtype == "int16")
    assert result.geometry == written.geometry
    assert result.meta["units"] == "HU"
    assert result.meta["synthetic"] is True


@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (5, 1, 1), (1, 1, 6)])
def test_round_trip_keeps_the_number_of_axes(folder, provenance, shape):
    written = volume(shape)
    NiftiWriterConfig().build().write(written, folder / "a.nii.gz", provenance)
    assert nib.load(folder / "a.nii.gz").shape[:2] == shape[:2]
    result = reader().read(folder / "a.nii.gz")
    assert np.array_equal(result.data, written.data)
    assert result.geometry == written.geometry


def test_plain_nibabel_sees_the_mark_and_both_forms(folder, provenance):
    written = volume()
    NiftiWriterConfig(dtype="int16").build().write(written, folder / "a.nii.gz", provenance)
    image = nib.load(folder / "a.nii.gz")
    assert b"SYNTHETIC" in image.header["descrip"].item()
    (extension,) = image.header.extensions
    assert extension.get_code() == 6
    assert '"synthetic":true' in str(extension.get_content())
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert np.allclose(image.get_sform(), written.geometry.affine, atol=1e-5)
    assert np.allclose(image.get_qform(), written.geometry.affine, atol=1e-4)
    assert np.abs(image.get_fdata() - written.data[0]).max() <= 0.5 + 1e-4
    assert image.header.get_xyzt_units()[0] == "mm"
    assert names(folder) == ["a.nii.gz", "a.nii.gz.json"]


def test_a_shear_has_no_qform(folder, provenance):
    NiftiWriterConfig().build().write(volume(affine=SHEARED), folder / "a.nii.gz", provenance)
    assert int(nib.load(folder / "a.nii.gz").header["qform_code"]) == 0


def test_the_same_sample_gives_the_same_bytes(folder, provenance):
    for name in ("a.nii.gz", "b.nii.gz"):
        NiftiWriterConfig().build().write(volume(), folder / name, provenance)
    assert gzip.decompress((folder / "a.nii.gz").read_bytes()) == gzip.decompress((folder / "b.nii.gz").read_bytes())


def test_an_image_that_was_moved_since_has_its_new_position(folder, provenance):
    NiftiWriterConfig().build().write(volume(), folder / "a.nii.gz", provenance)
    image = nib.load(folder / "a.nii.gz")
    moved = image.affine.copy()
    moved[:3, 3] += 10
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), moved, image.header), folder / "b.nii.gz")
    assert np.allclose(reader().read(folder / "b.nii.gz").geometry.affine, moved, atol=1e-5)


def save(path, data, affine=TURNED, code=1, **header):
    image = nib.Nifti1Image(data, affine)
    image.header.set_sform(affine, code=code)
    image.header.set_qform(affine, code=code)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)


def test_foreign_volume_and_slice(folder):
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    save(folder / "a.nii.gz", data)
    result = reader(dims=3).read(folder / "a.nii.gz")
    assert np.array_equal(result.data, data[None])
    assert np.allclose(result.geometry.affine, TURNED, atol=1e-5)
    assert result.geometry.source_header == {"dtype": "int16"}
    for plane in (data[..., 0], data[..., :1], data[..., :1, None]):
        save(folder / "b.nii", plane)
        result = reader().read(folder / "b.nii")
        assert np.array_equal(result.data, data[None, ..., 0])
        assert result.geometry.shape == (3, 4)
        # The slice thickness is the third column.
        assert np.allclose(result.geometry.affine, TURNED, atol=1e-5)
    assert reader(dims=3).read(folder / "b.nii").data.shape == (1, 3, 4, 1)


def test_scaling_is_applied(folder):
    data = np.array([[[0.0, 1.5], [-1000.0, 3000.0]]])
    image = nib.Nifti1Image(data, TURNED)
    image.set_data_dtype(np.int16)
    nib.save(image, folder / "a.nii.gz")
    assert np.abs(reader().read(folder / "a.nii.gz").data - data).max() < 0.1


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("mm", 1)])
def test_affine_is_in_mm(folder, unit, factor):
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.float32), TURNED)
    image.header.set_xyzt_units(unit)
    nib.save(image, folder / "a.nii.gz")
    assert np.allclose(reader().read(folder / "a.nii.gz").geometry.affine[:3], TURNED[:3] * factor, rtol=1e-5)


def test_volume_where_a_slice_is_expected(folder):
    data = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    affine = np.array([[0, 0, -2.0, 30], [1, 0, 0, -3], [0, 3.0, 0, 5], [0, 0, 0, 1]])  # axis 1 runs superior
    save(folder / "a.nii.gz", data, affine)
    with pytest.raises(UserError, match=r"holds a volume of shape \(4, 5, 7\), expected a slice"):
        reader(dims=2).read(folder / "a.nii.gz")
    result = reader(dims=2, volume="middle").read(folder / "a.nii.gz")
    assert np.array_equal(result.data[0], data[:, 2])
    assert np.allclose(result.geometry.affine @ [1, 3, 0, 1], affine @ [1, 2, 3, 1])
    assert result.geometry.orientation == "AL"


def test_no_affine(folder):
    save(folder / "good.nii", np.zeros((2, 3, 4), np.float32), np.diag([2.0, 3, 4, 1]))
    content = bytearray((folder / "good.nii").read_bytes())
    content[252:256] = bytes(4)  # qform and sform code
    (folder / "a.nii").write_bytes(content)
    with pytest.raises(UserError, match="states no orientation"):
        reader().read(folder / "a.nii")
    with pytest.raises(UserError, match="states no orientation"):
        reader(orientation="LP").read(folder / "a.nii")
    geometry = reader(orientation="LPS").read(folder / "a.nii").geometry
    assert geometry.orientation == "LPS"
    assert geometry.spacing_mm == (2, 3, 4)


def test_values_that_are_none(folder):
    data = np.zeros((2, 3, 4), np.float32)
    data[0, 0, :2] = [np.nan, np.inf]
    save(folder / "a.nii.gz", data)
    with pytest.raises(UserError, match="2 values are NaN or infinite"):
        reader().read(folder / "a.nii.gz")
    assert reader(nan_value=-7.0).read(folder / "a.nii.gz").data[0, 0, 0].tolist() == [-7, -7, 0, 0]


BAD = {
    "series": (np.zeros((2, 3, 4, 5), np.float32), "more than 3 axes"),
    "empty": (np.zeros((2, 0, 4), np.float32), "holds no image"),
    "line": (np.zeros(5, np.float32), "holds no image"),
    "complex": (np.zeros((2, 3, 4), np.complex64), "expected real numbers"),
    "colour": (np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "expected real numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content_names_the_file(folder, case):
    data, message = BAD[case]
    save(folder / "a.nii", data)
    with pytest.raises(UserError, match=message) as caught:
        reader().read(folder / "a.nii")
    assert str(folder / "a.nii") in str(caught.value)


def test_singular_affine_and_size_limit(folder):
    save(folder / "a.nii", np.zeros((2, 3, 4), np.float32))
    content = bytearray((folder / "a.nii").read_bytes())
    content[280:296] = bytes(16)  # the first row of the sform
    (folder / "b.nii").write_bytes(content)
    with pytest.raises(UserError, match="affine is singular"):
        reader().read(folder / "b.nii")
    with pytest.raises(UserError, match="max_megavoxels"):
        reader(max_megavoxels=1e-5).read(folder / "a.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_truncated_files(folder, suffix, share):
    save(folder / f"a{suffix}", np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32))
    content = (folder / f"a{suffix}").read_bytes()
    path = folder / f"cut{suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError) as caught:
        reader().read(path)
    assert str(path) in str(caught.value)


@pytest.mark.filterwarnings("ignore::core.errors.MedWeaveWarning")  # of headers that a bit has changed
def test_no_changed_bit_of_a_compressed_file_becomes_another_voxel(folder):
    """The checksum stands at the end of the stream, behind all voxels."""
    path = folder / "a.nii.gz"
    save(path, np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32))
    whole, content = reader().read(path).data, path.read_bytes()
    start = 10 + len(path.name)  # behind the stream's own header, whose time and name say nothing of the image
    for place in np.random.default_rng(1).integers(8 * start, 8 * len(content), size=150):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with suppress(UserError):
            assert np.array_equal(reader().read(path).data, whole)


def test_a_compressed_file_with_much_behind_its_image(folder):
    save(folder / "a.nii", np.ones((4, 5, 6), dtype=np.float32))
    content = (folder / "a.nii").read_bytes()
    with gzip.open(folder / "padded.nii.gz", "wb") as stream:
        stream.write(content + bytes(1000))
    assert reader().read(folder / "padded.nii.gz").data.shape == (1, 4, 5, 6)
    with gzip.open(folder / "bomb.nii.gz", "wb", compresslevel=1) as stream:
        stream.write(content + bytes(65 << 20))
    with pytest.raises(UserError, match=r"bomb\.nii\.gz: holds more than 64 MiB behind its image"):
        reader().read(folder / "bomb.nii.gz")


def test_not_nifti(folder):
    (folder / "a.nii.gz").write_bytes(b"hello" * 200)
    (folder / "b.nii").write_bytes(bytes(1000))
    for name in ("a.nii.gz", "b.nii"):
        with pytest.raises(UserError, match="cannot be read as NIfTI"):
            reader().read(folder / name)


def test_a_corrupt_header_is_an_error_and_a_repaired_header_a_warning(folder):
    """In a process of its own: nibabel prints through the stream that it found when it was first imported."""
    save(folder / "a.nii", np.zeros((2, 3, 4), np.float32))
    content = bytearray((folder / "a.nii").read_bytes())
    content[70:72] = b"\xff\x7f"  # data type code
    (folder / "b.nii").write_bytes(content)
    program = """
import sys
from core.errors import UserError
from core.io import NiftiReaderConfig
try:
    NiftiReaderConfig(modality="m").build().read(sys.argv[1])
except UserError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(folder / "b.nii")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.count("\n") == 1
    assert str(folder / "b.nii") in done.stdout
    assert done.stderr == ""
    content = bytearray((folder / "a.nii").read_bytes())
    content[80:84] = np.float32(-2).tobytes()  # the first spacing
    (folder / "c.nii").write_bytes(content)
    with pytest.warns(MedWeaveWarning, match=r"c\.nii: its header was repaired while reading: .*pixdim"):
        assert reader().read(folder / "c.nii").data.shape == (1, 2, 3, 4)


def test_writer_refuses(folder, provenance):
    good = volume()
    cases = [
        (NiftiWriterConfig(), Sample(modality="m", data=good.data), "takes one channel with its geometry"),
        (NiftiWriterConfig(), replace(good, data=np.repeat(good.data, 2, 0)), "2 channels; NIfTI takes one channel"),
        (NiftiWriterConfig(), Sample(modality="m", data=good.data * np.nan, geometry=good.geometry), "NaN"),
        (NiftiWriterConfig(), Sample(modality="m", data="Clear lungs."), "is text, expected an array"),
        (
            NiftiWriterConfig(),
            Sample(modality="m", data=good.data[..., :2], geometry=good.geometry),
            "but its geometry",
        ),
        (NiftiWriterConfig(dtype="int16"), Sample(modality="m", data=good.data[:, :0]), "no values"),
        (NiftiWriterConfig(), volume(note=object()), "is a object, which no file can store"),
        (NiftiWriterConfig(dtype="int16", step=0.001), good, "do not fit int16 with step 0.001"),
    ]
    for config, sample, message in cases:
        with pytest.raises(UserError, match=message):
            config.build().write(sample, folder / "a.nii.gz", provenance)
        assert names(folder) == []
    with pytest.raises(UserError, match=r"makes \.nii\.gz"):
        NiftiWriterConfig().build().write(good, folder / "a.nii", provenance)
    with pytest.raises(UserError, match="does not exist"):
        NiftiWriterConfig().build().write(good, folder / "none" / "a.nii.gz", provenance)


def test_failing_while_saving_leaves_nothing(folder, provenance, monkeypatch):
    def fail(self, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_filename", fail)
    with pytest.raises(UserError, match=r"a\.nii\.gz: cannot be written: No space left"):
        NiftiWriterConfig().build().write(volume(), folder / "a.nii.gz", provenance)
    assert names(folder) == []


def test_scan_reader_goes_by_suffix(folder, provenance):
    from PIL import Image

    Image.fromarray(np.zeros((4, 5), np.uint8)).save(folder / "a.png")
    NiftiWriterConfig().build().write(volume((4, 5)), folder / "a.nii.gz", provenance)
    nifti, image = NiftiReaderConfig(modality="m"), ImageReaderConfig(modality="m", orientation="PL")
    both = AnyFormatReaderConfig(nifti=nifti, image=image).build()
    assert both.read(folder / "a.png").geometry.orientation == "PL"
    assert both.read(folder / "a.nii.gz").geometry.orientation == "LP"
    assert ".png" in both.suffixes
    with pytest.raises(UserError, match=r"a\.png: this reader reads \.nii, \.nii\.gz, \.mhd, \.mha;.*set reader.image"):
        AnyFormatReaderConfig(nifti=nifti).build().read(folder / "a.png")


@pytest.mark.parametrize("dicom", [None, SeriesReaderConfig(modality="m")])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", "no such file; check the path"),
        ("none.nii", "no such file; check the path"),
        ("loop", "no such file: it is a link that leads nowhere, or to itself"),
        ("astray", "no such file: it is a link that leads nowhere"),
        ("empty", r"the file is empty \(0 bytes\)"),
        ("a" * 300, "cannot be opened: File name too long"),
        ("a\0b", "NUL character"),
    ],
)
def test_a_scan_that_does_not_exist_is_reported_missing(folder, dicom, name, expected):
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "astray").symlink_to(folder / "elsewhere")
    (folder / "empty").touch()
    with pytest.raises(UserError, match=expected):
        AnyFormatReaderConfig(nifti=NiftiReaderConfig(modality="m"), series=dicom).build().read(folder / name)
