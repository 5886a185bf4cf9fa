import json
import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFile

from core.errors import UserError
from core.io import ImageReaderConfig, ImageWriterConfig, centred
from core.types import Sample


def reader(**options):
    return ImageReaderConfig(modality="m", orientation="IL", **options).build()


def sample(shape=(1, 9, 13), low=0.0, high=1.0, spacing=(0.3, 0.7), **stored):
    data = np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)
    return Sample(modality="m", data=data, geometry=centred(shape[1:], spacing, "IL", **stored))


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".PNG"])
@pytest.mark.parametrize(("kind", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_stored_numbers_come_back(folder, suffix, kind, bits):
    array = GREY.astype(kind) * (1 if bits == 8 else 1000)
    path = folder / f"a{suffix}"
    Image.fromarray(array).save(path)
    result = reader().read(path)
    assert result.data.dtype == np.float32
    assert np.array_equal(result.data, array[None].astype(np.float32))
    assert result.geometry.source_header == {"bits": bits}
    assert result.geometry.orientation == "IL"
    assert result.meta["spacing_known"] is False


def test_jpeg_and_spacing(folder):
    Image.fromarray(np.full((6, 8), 100, np.uint8)).save(folder / "a.jpg", dpi=(72, 72))
    result = reader(spacing_mm=(0.2, 0.4)).read(folder / "a.jpg")
    assert np.abs(result.data - 100).max() <= 2
    assert result.geometry.spacing_mm == (0.2, 0.4)
    assert result.meta["spacing_known"] is True


@pytest.mark.parametrize(("kind", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_value_range_goes_by_bit_depth(folder, kind, largest):
    Image.fromarray(np.array([[0, largest]] * 2, kind)).save(folder / "a.png")
    assert reader(value_range=(0, 1)).read(folder / "a.png").data[0, 0].tolist() == [0.0, 1.0]
    assert reader(value_range=(-160, 240)).read(folder / "a.png").data[0, 0].tolist() == [-160.0, 240.0]


def test_twelve_bits_in_sixteen(folder):
    Image.fromarray(np.array([[0, 4095]] * 2, np.uint16)).save(folder / "a.png")
    assert reader(value_range=(0, 1), bits=12).read(folder / "a.png").data.max() == 1.0
    with pytest.raises(UserError, match="holds 4095, more than bits = 10"):
        reader(value_range=(0, 1), bits=10).read(folder / "a.png")


def test_colour_with_equal_channels_is_grey_without_weights(folder):
    Image.fromarray(np.stack([GREY] * 3, -1)).save(folder / "a.png")
    assert np.array_equal(reader().read(folder / "a.png").data[0], GREY)
    assert reader(channels=3).read(folder / "a.png").data.shape == (3, 6, 8)


def rgba(alpha):
    return Image.fromarray(np.dstack([GREY, GREY, GREY, np.full_like(GREY, alpha)]))


def palette():
    return Image.fromarray(np.dstack([GREY, GREY, GREY])).quantize(16)


def sixteen_bit_colour(path):
    import struct
    import zlib

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + bytes(range(12)) for _ in range(2))
    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def white_is_zero(path):
    Image.fromarray(GREY.astype(np.uint16)).save(path, tiffinfo={262: 0})


REFUSED = {
    "transparent": ("a.png", lambda path: rgba(200).save(path), "transparent pixels"),
    "palette": ("a.png", lambda path: palette().save(path), "palette|fewer than 8 bits"),
    "one_bit": ("a.png", lambda path: Image.fromarray(GREY > 20).save(path), "1-bit|fewer than 8 bits"),
    "cmyk": ("a.jpg", lambda path: rgba(255).convert("RGB").convert("CMYK").save(path), "CMYK"),
    "colour": (
        "a.png",
        lambda path: Image.fromarray(np.dstack([GREY, GREY, GREY.T.reshape(6, 8)])).save(path),
        "in colour",
    ),
    "float": ("a.tif", lambda path: Image.fromarray(GREY.astype(np.float32)).save(path), "floating-point"),
    "int32": ("a.tif", lambda path: Image.fromarray(GREY.astype(np.int32)).save(path), "32-bit"),
    "colour16": ("a.png", sixteen_bit_colour, "16 bits per colour"),
    "key": ("a.png", lambda path: Image.fromarray(GREY).save(path, transparency=0), "transparent colour"),
    "white0": ("a.tif", white_is_zero, "white as 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_plain_is_refused_and_can_be_converted(folder, case):
    name, make, message = REFUSED[case]
    make(folder / name)
    with pytest.raises(UserError, match=message) as caught:
        reader().read(folder / name)
    assert str(folder / name) in str(caught.value)
    assert "convert = true" in str(caught.value)
    converted = reader(convert=True).read(folder / name)
    assert converted.data.shape[0] == 1
    assert converted.geometry.source_header["bits"] == 8


def test_palette_of_eight_bits(folder):
    many = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("P")
    many.putpalette([v for i in range(256) for v in (i, 255 - i, 0)])
    many.save(folder / "a.png")
    with pytest.raises(UserError, match="colours by palette"):
        reader().read(folder / "a.png")


def test_opaque_alpha_is_no_fault(folder):
    rgba(255).save(folder / "a.png")
    assert np.array_equal(reader().read(folder / "a.png").data[0], GREY)


def test_grey_where_colour_is_expected(folder):
    Image.fromarray(GREY).save(folder / "a.png")
    with pytest.raises(UserError, match="is grey, expected colour"):
        reader(channels=3).read(folder / "a.png")


@pytest.mark.parametrize(("suffix", "turned"), [(".jpg", 1), (".jpg", 3), (".jpg", 6), (".tif", 1), (".tif", 3)])
def test_exif_orientation_is_obeyed_once(folder, turned, suffix):
    array = np.zeros((16, 32), np.uint8)
    array[:8, :8] = 255
    image = Image.fromarray(array)
    exif = Image.Exif()
    exif[274] = turned
    image.save(folder / f"a{suffix}", exif=exif)
    result = reader().read(folder / f"a{suffix}").data[0] > 128
    corner = {1: (0, 0), 3: (-1, -1), 6: (0, -1)}[turned]
    assert result.shape == ((32, 16) if turned == 6 else (16, 32))
    assert result[corner]
    assert result.sum() == 64


def test_tiff_on_its_side_is_refused(folder):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(GREY).save(folder / "a.tif", exif=exif)
    with pytest.raises(UserError, match=r"lying on its side \(TIFF orientation 6\)"):
        reader().read(folder / "a.tif")


def test_exif_orientation_out_of_range(folder):
    exif = Image.Exif()
    exif[274] = 9
    Image.fromarray(GREY).save(folder / "a.jpg", exif=exif)
    with pytest.raises(UserError, match="EXIF orientation 9"):
        reader().read(folder / "a.jpg")


def broken(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        reader().read(folder / name)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_broken_files_name_themselves(folder):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(folder / "good.png")
    content = (folder / "good.png").read_bytes()
    assert "empty (0 bytes)" in broken(folder, "zero.png", b"")
    assert "cannot be read as a picture" in broken(folder, "noise.png", os.urandom(400))
    assert "cannot be read as a picture" in broken(folder, "gif.png", b"GIF89a" + bytes(30))
    for share in (20, len(content) // 2, len(content) - 30):
        assert "cannot be read as a picture" in broken(folder, "cut.png", content[:share])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_missing_folder_suffix(folder):
    for path, message in [
        (folder / "none.png", "no such file"),
        (folder / "a.bmp", "reads .png"),
    ]:
        with pytest.raises(UserError, match=message):
            reader().read(path)
    (folder / "dir.png").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        reader().read(folder / "dir.png")


def test_sizes_are_checked_before_decoding(folder):
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(folder / "one.png")
    with pytest.raises(UserError, match="1 x 1 pixels, a side is below min_side = 2"):
        reader().read(folder / "one.png")
    assert reader(min_side=1).read(folder / "one.png").data.shape == (1, 1, 1)
    Image.new("1", (12000, 10000)).save(folder / "bomb.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match="12000 x 10000 pixels, more than max_megapixels = 80"):
            reader().read(folder / "bomb.png")


def test_several_pictures_in_a_file(folder):
    image = Image.fromarray(GREY)
    image.save(folder / "a.tif", save_all=True, append_images=[image])
    with pytest.raises(UserError, match="holds 2 pictures"):
        reader().read(folder / "a.tif")


@pytest.mark.parametrize(
    ("bits", "value_range", "shape"),
    [
        (16, (0.0, 1.0), (1, 9, 13)),
        (8, (-1000.0, 1000.0), (1, 5, 4)),
        (16, (-3.5, 2.25), (1, 2, 2)),
        (8, (0.0, 1.0), (3, 9, 13)),
    ],
)
def test_round_trip(folder, provenance, bits, value_range, shape):
    written = sample(shape, *value_range, window=[1, 2], note="ü")
    writer = ImageWriterConfig(bits=bits, value_range=value_range, units="HU").build()
    writer.write(written, folder / "ä.png", provenance)
    # The reader's own settings give way to what the file says.
    result = reader(value_range=(5, 6), channels=shape[0], spacing_mm=(9, 9)).read(folder / "ä.png")
    assert np.abs(result.data - written.data).max() <= writer.tolerance * 1.001 + 1e-4
    assert result.geometry == written.geometry
    assert result.meta["synthetic"] is True
    assert result.meta["units"] == "HU"
    assert result.meta["provenance"] == provenance.model_dump(mode="json")


def test_numpy_values_in_the_geometry_are_written(folder, provenance):
    remaining = {
        "window": np.array([1.5, 2]),
        "bits": np.int64(12),
        "deep": {"on": [np.bool_(True), (np.float32(0.5),)]},
    }
    ImageWriterConfig().build().write(sample(**remaining), folder / "a.png", provenance)
    result = reader().read(folder / "a.png").geometry.source_header
    assert result == {"window": [1.5, 2.0], "bits": 12, "deep": {"on": [True, [0.5]]}}


def test_plain_pillow_sees_the_mark(folder, provenance):
    ImageWriterConfig().build().write(sample(), folder / "a.png", provenance)
    with Image.open(folder / "a.png") as image:
        assert image.text["Synthetic"] == "true"
        assert "SYNTHETIC" in image.text["Description"]
        mark = json.loads(image.text["medweave"])
        assert image.mode.startswith("I;16")
        assert image.info["dpi"] == pytest.approx((25.4 / 0.7, 25.4 / 0.3), rel=1e-3)
    assert mark["synthetic"] is True
    assert mark["provenance"]["seed"] == 7
    assert json.loads((folder / "a.png.json").read_text()) == mark
    assert names(folder) == ["a.png", "a.png.json"]


def test_writer_refuses(folder, provenance):
    writer = ImageWriterConfig().build()
    cases = [
        (sample(high=2.0), "leave value_range 0 to 1"),
        (Sample(modality="m", data=np.full((1, 4, 4), np.nan, np.float32)), "leave value_range"),
        (sample((3, 4, 4)), "PNG takes"),
        (Sample(modality="m", data=np.zeros((1, 4, 4, 4), np.float32)), "expected channels and 2 spatial axes"),
        (replace(sample(), geometry=centred((9, 13, 2), (1, 1, 1), "SPL")), r"geometry \(9, 13, 2\)"),
        (replace(sample(), geometry=centred((9, 12), (1, 1), "IL")), r"shape \(9, 13\), but its geometry \(9, 12\)"),
        (replace(sample(), data="Clear lungs."), "is text, expected an array"),
        (replace(sample(), data=np.zeros((1, 0, 4), np.float32)), "no values"),
        (replace(sample(), data=np.full((1, 9, 13), "x")), "expected real numbers"),
        (sample(note=object()), r"geometry\.source_header\['note'\] is a object"),
    ]
    for wrong, message in cases:
        with pytest.raises(UserError, match=message):
            writer.write(wrong, folder / "a.png", provenance)
        assert names(folder) == []
    (folder / "b.png.json").write_text("{}")
    with pytest.raises(UserError, match=r"b\.png\.json: exists already"):
        writer.write(sample(), folder / "b.png", provenance)
    assert names(folder) == ["b.png.json"]
    writer.write(sample(), folder / "b.png", provenance, overwrite=True)


def test_a_mark_that_no_longer_fits(folder, provenance):
    from PIL.PngImagePlugin import PngInfo

    ImageWriterConfig().build().write(sample(), folder / "a.png", provenance)
    with Image.open(folder / "a.png") as image:
        text = PngInfo()
        text.add_itxt("medweave", image.text["medweave"])
        image.resize((4, 4)).save(folder / "small.png", pnginfo=text)
        text = PngInfo()
        text.add_itxt("medweave", '{"medweave": 2}')
        image.save(folder / "later.png", pnginfo=text)
    with pytest.raises(UserError, match="was changed after MedWeave wrote it"):
        reader().read(folder / "small.png")
    with pytest.raises(UserError, match="mark is damaged or from another version"):
        reader().read(folder / "later.png")
