"""Write a `Sample` as PNG of 8 or 16 bits, marked as synthetic in the file and in a JSON file of its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.files import require_storable
from core.io.provenance import Mark, png_mark, write_marked
from core.types import Geometry, Provenance, Sample


class ImageWriterConfig(PartConfig):
    """A writer of PNG. ``value_range``, in ``units``, is spread over the whole bit depth.

    Colour is 8 bits per channel: Pillow writes no deeper.
    """

    value_range: tuple[float, float] = (0.0, 1.0)
    units: str = "a.u."
    bits: Literal[8, 16] = 16

    @model_validator(mode="after")
    def _require_range(self) -> ImageWriterConfig:
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError("value_range needs low < high")
        return self

    def build(self) -> ImageWriter:
        """Make the writer."""
        return ImageWriter(self)


class ImageWriter:
    """Write float32 ``channel H W`` with 1 or 3 channels. ``tolerance`` is half a grey level, in units."""

    suffix = ".png"

    def __init__(self, config: ImageWriterConfig) -> None:
        self.config = config
        low, high = config.value_range
        self.tolerance = 0.5 * (high - low) / (2**config.bits - 1)

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Write ``path`` and ``<path>.json``, or neither.

        Raises `UserError` where the file exists, the values leave ``value_range``, or the sample is no picture.
        """
        levels = self._quantize(sample, path)
        mark = Mark.of(sample, provenance, self.config.units, self.config.value_range)

        def save(temporary: Path) -> None:
            _save(levels, temporary, mark, sample.geometry)

        write_marked(Path(path), mark, save, overwrite=overwrite)

    def _quantize(self, sample: Sample, path: Path) -> np.ndarray:
        data = require_storable(sample, path, axes=(2,)).astype(np.float64)
        if data.shape[0] not in (1, 3) or (data.shape[0] == 3 and self.config.bits == 16):
            raise UserError(
                f"{path}: shape {data.shape} with {self.config.bits} bits; PNG takes 1 x H x W, or 3 x H x W of 8 bits"
            )
        low, high = self.config.value_range
        # Not (a <= b), so that NaN is refused too.
        if not (data.min() >= low - self.tolerance and data.max() <= high + self.tolerance):
            raise UserError(
                f"{path}: values from {data.min():g} to {data.max():g} leave value_range {low:g} to {high:g}"
            )
        levels = np.rint((data - low) * ((2**self.config.bits - 1) / (high - low)))
        kind = np.uint16 if self.config.bits == 16 else np.uint8
        return np.clip(levels, 0, 2**self.config.bits - 1).astype(kind)


def _save(levels: np.ndarray, path: Path, mark: Mark, geometry: Geometry | None) -> None:
    from PIL import Image

    options: dict[str, Any] = {}
    if geometry is not None:
        rows, columns = geometry.spacing_mm
        options["dpi"] = (25.4 / columns, 25.4 / rows)
    plane = levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)
    Image.fromarray(plane).save(path, format="PNG", pnginfo=png_mark(mark), **options)
