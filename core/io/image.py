"""PNG, JPEG and TIFF of 8 and 16 bits, and pictures in an archive of numpy's, to `Sample`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.archive import SUFFIX, container, member_of, picture_in
from core.io.axes import Orientation, centred
from core.io.mark import Mark
from core.io.pixels import pixels
from core.io.source import decoding, readable, without_nul
from core.types import Geometry, Sample, Space

MARK_KEY = "medweave"


class ImageReaderConfig(PartConfig):
    """A reader of plain pictures. They say neither units nor position, so this config does.

    ``orientation``: where rows and columns run, e.g. ``"IL"``. ``spacing_mm``: (row, column) of files that do not say;
    without it 1 mm is written down and ``meta["spacing_known"]`` is false (the resolution tags of foreign pictures
    mean screens, not patients, and are not used). ``value_range``: what 0 and the largest storable number stand for,
    in ``units``; ``(0, 1)`` divides by the largest number of the bit depth (MedCoDi-M 3.1); left out, stored numbers
    are kept. ``bits``: bits in use where they are fewer than the file's (12 in a 16-bit picture). ``convert``: let
    Pillow turn palettes, colour, alpha, 1-bit and the like into 8 bits instead of refusing them. ``projection``: the
    pictures are projections, not slices; kept as ``stored["projection"]`` of their geometry. ``unplaced``: they are
    photographs, which lie nowhere in the patient; kept likewise.

    A file that MedWeave wrote states all this itself, and what it states is used.
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
    """Reads a picture into float32 ``channel H W``; of an archive, the one that ``images.npz#17`` names."""

    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff", SUFFIX)

    def __init__(self, config: ImageReaderConfig) -> None:
        self.config = config

    def read(self, path: Path) -> Sample:
        """The picture in units and with geometry; `UserError` that names the file for all that is not plain."""
        path = without_nul(path)
        readable(container(path), self.suffixes)
        with decoding(path, "a picture"), self._opened(path) as image:
            self._check_size(image, path)
            data, stored = pixels(image, self.config.channels, self.config.convert, path)
            text = image.info.get(MARK_KEY)
        mark = None if text is None else Mark.parse(text, path)
        bits = stored["bits"]
        if mark is not None:
            return self._marked(path, data, bits, mark)
        meta = {"path": str(path), "units": self.config.units, "spacing_known": self.config.spacing_mm is not None}
        return self._sample(self._in_units(data, bits, path), self._geometry(data.shape[1:], stored), meta)

    def _opened(self, path: Path) -> Any:
        from PIL import Image

        member = member_of(path)
        if member is not None:
            return picture_in(member, path)
        if path.name.lower().endswith(SUFFIX):
            raise UserError(f"{path}: is an archive of pictures; name one of them, as in {path.name}#0")
        with warnings.catch_warnings():
            # Pillow warns of large pictures; max_megapixels decides here, before a pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path, formats=("PNG", "JPEG", "TIFF"))

    def _check_size(self, image: Any, path: Path) -> None:
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

    def _in_units(self, data: np.ndarray, bits: int, path: Path) -> np.ndarray:
        largest = 2 ** (self.config.bits or bits) - 1
        if data.max() > largest:
            raise UserError(f"{path}: holds {data.max():.0f}, more than bits = {self.config.bits} can store")
        return data if self.config.value_range is None else _spread(data, largest, self.config.value_range)

    def _geometry(self, shape: Space, stored: Mapping[str, object]) -> Geometry:
        config = {"projection": self.config.projection, "unplaced": self.config.unplaced}
        said = {key: True for key, value in config.items() if value}
        return centred(shape, self.config.spacing_mm or (1.0, 1.0), self.config.orientation, **said, **stored)

    def _marked(self, path: Path, data: np.ndarray, bits: int, mark: Mark) -> Sample:
        geometry = mark.geometry(data.shape[1:], path) or self._geometry(data.shape[1:], {"bits": bits})
        data = _spread(data, 2**bits - 1, mark.value_range) if mark.value_range else data
        return self._sample(data, geometry, {"path": str(path), **mark.meta()})

    def _sample(self, data: np.ndarray, geometry: Geometry, meta: dict[str, Any]) -> Sample:
        return Sample(modality=self.config.modality, data=data, geometry=geometry, meta=meta)


def _spread(data: np.ndarray, largest: int, value_range: tuple[float, float]) -> np.ndarray:
    low, high = value_range
    return (low + data.astype(np.float64) * ((high - low) / largest)).astype(np.float32)
