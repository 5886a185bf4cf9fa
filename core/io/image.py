"""Read PNG, JPEG and TIFF of 8 and 16 bits, and pictures in an archive of numpy, as `Sample`.

A picture that cannot be decoded exactly is refused: nothing is guessed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.files import decoding, require_file, require_no_nul
from core.io.geometry import Orientation, centred
from core.io.npz_archive import SUFFIX, read_picture
from core.io.provenance import PNG_KEY, Mark
from core.types import DataFile, FileRef, Geometry, Sample, Space, file_ref, path_on_disk

_DEPTH = {"L": 8, "RGB": 8, "I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16}
_WHAT = {
    "1": "1-bit black and white",
    "P": "colours by palette",
    "PA": "colours by palette",
    "CMYK": "CMYK ink values",
    "I": "signed or 32-bit integers",
    "F": "floating-point numbers",
}
_EXIF_ORIENTATION = 274
_PHOTOMETRIC = 262


def read_pixels(image: Any, channels: int, convert: bool, path: DataFile) -> tuple[np.ndarray, dict[str, int]]:
    """Return stored numbers as float32 ``channel H W``, upright, and entries of the header (``bits``: 8 or 16).

    Accepts grey of 8 and 16 bits, RGB of 8 bits, an alpha channel that is opaque everywhere, and RGB with three equal
    channels where ``channels`` is 1. All else is a `UserError`, unless ``convert`` lets Pillow convert it to 8 bits.
    """
    raw = _raw_mode(image)
    image, header = _upright(image, path)
    fault = _fault(image, raw)
    if fault is None:
        image = _opaque(image)
        fault = _wrong_channels(image, channels)
    if fault is not None and not convert:
        raise UserError(f"{path}: {fault}; export it again, or set convert = true to let Pillow make 8 bits of it")
    if fault is not None or (image.mode == "RGB" and channels == 1):
        image = _converted(image, channels, fault is None)
    array = np.asarray(image)
    planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return np.ascontiguousarray(planes, dtype=np.float32), {"bits": _DEPTH[image.mode], **header}


def _upright(image: Any, path: DataFile) -> tuple[Any, dict[str, int]]:
    """Return the decoded picture as its EXIF orientation displays it, and that orientation unless it is 1."""
    from PIL import ImageOps

    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation not in range(1, 9):
        raise UserError(f"{path}: EXIF orientation {orientation} is none of 1 to 8; remove or correct the tag")
    if orientation >= 5 and image.format == "TIFF":
        # Pillow 13 scrambles the rows of uncompressed ones.
        raise UserError(f"{path}: is stored lying on its side (TIFF orientation {orientation}); save it upright")
    photometric = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC)
    image.load()
    if image.mode.startswith("I;16") and photometric == 0:
        image.info["white_is_zero"] = True
    # Pillow turns some formats while it decodes them, and then no longer reports the tag: nothing is turned twice.
    if orientation != 1:
        image = ImageOps.exif_transpose(image)
    return image, {} if orientation == 1 else {"exif_orientation": int(orientation)}


def _raw_mode(image: Any) -> str:
    """Return how the file stores a pixel, e.g. ``RGB;16B`` where Pillow gives 8-bit ``RGB``."""
    tile = getattr(image, "tile", ())  # a picture of an archive has none
    arguments = tile[0][3] if tile else ""
    if isinstance(arguments, (tuple, list)):
        arguments = arguments[0] if arguments else ""
    return str(arguments)


def _fault(image: Any, raw: str) -> str | None:
    """Return why the numbers are not 8 or 16 bits of grey, or 8 bits of colour; ``None`` where they are."""
    if ";16" in raw and not image.mode.startswith("I;16"):
        return "stores 16 bits per colour, which Pillow would cut to 8"
    if raw.partition(";")[2] in ("1", "2", "4") or raw in ("1", "1;I"):
        return f"stores fewer than 8 bits per pixel ({raw})"
    if "white_is_zero" in image.info:
        return "stores white as 0 in 16 bits"
    if image.mode in ("LA", "RGBA"):
        return None if image.getchannel("A").getextrema() == (255, 255) else "has transparent pixels"
    if "transparency" in image.info:
        return "declares a transparent colour"
    if image.mode not in _DEPTH:
        return f"stores {_WHAT.get(image.mode, 'pixels of mode ' + image.mode)}, expected grey or RGB"
    return None


def _opaque(image: Any) -> Any:
    return image.convert(image.mode[:-1]) if image.mode in ("LA", "RGBA") else image


def _wrong_channels(image: Any, channels: int) -> str | None:
    if channels == 3 and image.mode != "RGB":
        return "is grey, expected colour"
    if channels == 1 and image.mode == "RGB" and not _is_grey(image):
        return "is in colour, expected grey"
    return None


def _is_grey(image: Any) -> bool:
    array = np.asarray(image)
    return bool((array == array[..., :1]).all())


def _converted(image: Any, channels: int, equal: bool) -> Any:
    if equal:
        return image.getchannel(0)  # three equal channels: no weights, no rounding
    if image.mode.startswith("I;16"):
        from PIL import Image

        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB" if channels == 3 else "L")


class ImageReaderConfig(PartConfig):
    """A reader of plain pictures. Such files state neither units nor position, so this config does.

    ``orientation``: where rows and columns run, e.g. ``"IL"``. ``spacing_mm``: (row, column) in mm. Without it 1 mm is
    assumed and ``meta["spacing_known"]`` is false: the resolution tags of pictures describe screens, not patients, and
    are not used. ``value_range``: what 0 and the largest storable number stand for, in ``units``; ``(0, 1)`` divides
    by the largest number of the bit depth (MedCoDi-M 3.1); left out, stored numbers are returned. ``bits``: bits in
    use where they are fewer than those of the file (12 in a 16-bit picture). ``convert``: let Pillow convert palettes,
    colour, alpha, 1-bit and the like to 8 bits instead of refusing them. ``projection``: the pictures are projections,
    not slices; becomes ``source_header["projection"]`` of their geometry. ``unplaced``: they are photographs, whose
    position in the patient is unknown; becomes ``source_header["unplaced"]``.

    A file that MedWeave wrote states all this itself, and its statements are used.
    """

    modality: str
    orientation: Orientation
    channels: Literal[1, 3] = 1
    units: str = "a.u."
    value_range: tuple[float, float] | None = None
    spacing_mm: tuple[PositiveFloat, PositiveFloat] | None = None
    bits: PositiveInt | None = None
    convert: bool = False
    projection: bool = False
    unplaced: bool = False
    min_side: PositiveInt = 2
    max_megapixels: PositiveFloat = 80.0

    def build(self) -> ImageReader:
        """Make the reader."""
        return ImageReader(self)


class ImageReader:
    """Read a picture into float32 ``channel H W``; of an archive, the one that ``images.npz#17`` names."""

    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff", SUFFIX)

    def __init__(self, config: ImageReaderConfig) -> None:
        self.config = config

    def read(self, path: DataFile) -> Sample:
        """Return the picture in units and with geometry; `UserError` that names the file where it cannot be read."""
        path = file_ref(path if isinstance(path, FileRef) else require_no_nul(path))
        require_file(path_on_disk(path), self.suffixes)
        with decoding(path, "a picture"), self._open(path) as image:
            self._require_size(image, path)
            data, header = read_pixels(image, self.config.channels, self.config.convert, path)
            text = image.info.get(PNG_KEY)
        mark = None if text is None else Mark.parse(text, path)
        bits = header["bits"]
        if mark is not None:
            return self._marked(path, data, bits, mark)
        meta = {"path": str(path), "units": self.config.units, "spacing_known": self.config.spacing_mm is not None}
        return self._sample(self._in_units(data, bits, path), self._geometry(data.shape[1:], header), meta)

    def _open(self, path: DataFile) -> Any:
        from PIL import Image

        if isinstance(path, FileRef):
            return read_picture(path)
        if path.name.lower().endswith(SUFFIX):
            raise UserError(f"{path}: is an archive of pictures; name one of them, as in {path.name}#0")
        with warnings.catch_warnings():
            # Pillow warns of large pictures; max_megapixels decides here, before a pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path, formats=("PNG", "JPEG", "TIFF"))

    def _require_size(self, image: Any, path: DataFile) -> None:
        width, height = image.size
        if width * height > self.config.max_megapixels * 1e6:
            raise UserError(
                f"{path}: {width} x {height} pixels, more than max_megapixels = {self.config.max_megapixels:g};"
                " raise it if the file is trusted"
            )
        if min(width, height) < self.config.min_side:
            raise UserError(f"{path}: {width} x {height} pixels, a side is below min_side = {self.config.min_side}")
        if getattr(image, "n_frames", 1) > 1:
            raise UserError(f"{path}: holds {image.n_frames} pictures, expected one; split it into files")

    def _in_units(self, data: np.ndarray, bits: int, path: DataFile) -> np.ndarray:
        largest = 2 ** (self.config.bits or bits) - 1
        if data.max() > largest:
            raise UserError(f"{path}: holds {data.max():.0f}, more than bits = {self.config.bits} can store")
        return data if self.config.value_range is None else _spread(data, largest, self.config.value_range)

    def _geometry(self, shape: Space, header: Mapping[str, object]) -> Geometry:
        config = {"projection": self.config.projection, "unplaced": self.config.unplaced}
        flags = {key: True for key, value in config.items() if value}
        return centred(shape, self.config.spacing_mm or (1.0, 1.0), self.config.orientation, **flags, **header)

    def _marked(self, path: DataFile, data: np.ndarray, bits: int, mark: Mark) -> Sample:
        geometry = mark.geometry(data.shape[1:], path) or self._geometry(data.shape[1:], {"bits": bits})
        data = _spread(data, 2**bits - 1, mark.value_range) if mark.value_range else data
        return self._sample(data, geometry, {"path": str(path), **mark.meta()})

    def _sample(self, data: np.ndarray, geometry: Geometry, meta: dict[str, Any]) -> Sample:
        return Sample(modality=self.config.modality, data=data, geometry=geometry, meta=meta)


def _spread(data: np.ndarray, largest: int, value_range: tuple[float, float]) -> np.ndarray:
    low, high = value_range
    return (low + data.astype(np.float64) * ((high - low) / largest)).astype(np.float32)
