"""Decoded pixels of a picture, or a clear refusal: nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError

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


def pixels(image: Any, channels: int, convert: bool, path: Path) -> tuple[np.ndarray, dict[str, int]]:
    """Stored numbers as float32 ``channel H W``, upright, and what the file said (``bits``: 8 or 16).

    Accepts grey of 8 and 16 bits, RGB of 8 bits, an alpha channel that is opaque everywhere, and RGB with three equal
    channels where one is asked for. All else is a `UserError`, unless ``convert`` lets Pillow convert it to 8 bits.
    """
    raw = _raw_mode(image)
    image, stored = _upright(image, path)
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
    return np.ascontiguousarray(planes, dtype=np.float32), {"bits": _DEPTH[image.mode], **stored}


def _upright(image: Any, path: Path) -> tuple[Any, dict[str, int]]:
    """The decoded picture as its EXIF orientation says it is displayed, and that orientation unless it is 1."""
    from PIL import ImageOps

    turned = image.getexif().get(_EXIF_ORIENTATION, 1)
    if turned not in range(1, 9):
        raise UserError(f"{path}: EXIF orientation {turned} is none of 1 to 8; remove or correct the tag")
    if turned >= 5 and image.format == "TIFF":
        # Pillow 13 scrambles the rows of uncompressed ones.
        raise UserError(f"{path}: is stored lying on its side (TIFF orientation {turned}); save it upright")
    photometric = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC)
    image.load()
    if image.mode.startswith("I;16") and photometric == 0:
        image.info["white_is_zero"] = True
    # Pillow turns some formats while it decodes them, and then no longer reports the tag: nothing is turned twice.
    if turned != 1:
        image = ImageOps.exif_transpose(image)
    return image, {} if turned == 1 else {"exif_orientation": int(turned)}


def _raw_mode(image: Any) -> str:
    """How the file stores a pixel, e.g. ``RGB;16B`` where Pillow will hand out 8-bit ``RGB``."""
    tile = getattr(image, "tile", ())  # a picture of an archive has none
    arguments = tile[0][3] if tile else ""
    if isinstance(arguments, (tuple, list)):
        arguments = arguments[0] if arguments else ""
    return str(arguments)


def _fault(image: Any, raw: str) -> str | None:
    """What makes the numbers other than 8 or 16 bits of grey, or 8 bits of colour."""
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
