"""Convert images and volumes in units to [-1, 1] on the canonical grid, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import PositiveFloat, PositiveInt, model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.geometry import Orientation, centred
from core.preprocess.spatial import GridMapping, Resize, map_to_grid
from core.types import DataSpec, Geometry, Sample

CANONICAL = "canonical"
RANGE = "range"


class GridConfig(PartConfig, ABC):
    """The canonical grid: what a sample of the modality looks like to every later step.

    ``space`` ``(H, W)`` or ``(D, H, W)``; ``spacing_mm`` and ``orientation`` per axis give the default geometry of
    generated samples and the aspect ratio. A sample is turned to ``orientation`` (unless ``reorient`` is false),
    padded with the lower bound to the aspect ratio (unless ``keep_aspect`` is false: then it is squeezed), resized.
    ``projection``: a pixel is a sum along a ray, not a point, and has no position along the third axis; the default
    geometry states it as ``source_header["projection"]``. ``unplaced``: the position of a pixel in the patient is
    unknown (a photograph), and ``orientation`` is that of the screen; stated as ``source_header["unplaced"]``.
    """

    space: tuple[PositiveInt, ...]
    spacing_mm: tuple[PositiveFloat, ...]
    orientation: Orientation
    channels: PositiveInt = 1
    units: str = "a.u."
    keep_aspect: bool = True
    reorient: bool = True
    projection: bool = False
    unplaced: bool = False
    resize: Resize = "area"

    @model_validator(mode="after")
    def _require_equal_lengths(self) -> GridConfig:
        if not len(self.space) == len(self.spacing_mm) == len(self.orientation):
            raise ValueError("space, spacing_mm and orientation need one entry per axis")
        return self

    @property
    def geometry(self) -> Geometry:
        """Return the geometry of a sample without any from an input: centred at the world's origin."""
        config = {"projection": self.projection, "unplaced": self.unplaced}
        flags = {key: True for key, value in config.items() if value}
        return centred(self.space, self.spacing_mm, self.orientation, **flags)

    @property
    @abstractmethod
    def value_bounds(self) -> tuple[float, float]:
        """Return what -1 and 1 stand for in ``units``, where a sample does not state it."""

    @property
    def spec(self) -> DataSpec:
        """Return the `DataSpec` that goes with this preprocessor."""
        return DataSpec(
            kind="grid",
            space=self.space,
            channels=self.channels,
            units=self.units,
            value_range=self.value_bounds,
            default_geometry=self.geometry,
        )


class GridPreprocess(ABC):
    """Clip, scale to [-1, 1], turn, pad, resize; and the way back.

    ``invert`` restores a sample that already lies on the canonical grid within ``tolerance`` units, unless it was
    clipped. Between grids of different size only what the coarser one can hold comes back. A canonical sample is
    known by ``meta["canonical"]`` and returned as it is; ``meta["range"]`` holds what -1 and 1 stood for.
    """

    source_channels: int | None = None  # channels of original data, where the canonical form has another number

    def __init__(self, config: GridConfig, tolerance: float) -> None:
        self.config = config
        self.tolerance = tolerance

    @abstractmethod
    def bounds(self, data: np.ndarray) -> tuple[float, float]:
        """Return what -1 and 1 shall stand for in this sample."""

    def apply(self, sample: Sample) -> Sample:
        """Return the canonical form; `UserError` names the sample: wrong axes, plane or channels, or not finite."""
        if is_canonical(sample):
            return sample
        data, geometry = self._require_source(sample)
        mapping = self._map_to_grid(geometry, sample)
        low, high = self.bounds(data)
        scaled = (np.clip(data, low, high) - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1)
        scaled = np.clip(mapping.forward(scaled, -1.0, self.config.resize), -1, 1).astype(np.float32)
        meta = {**sample.meta, CANONICAL: True, RANGE: (low, high)}
        return replace(sample, data=scaled, geometry=self._canonical_geometry(mapping, geometry), meta=meta)

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """Restore units, on the grid of ``like`` (or the default geometry).

        The canonical grid stands for the field of view of ``like``, padded to the aspect ratio as in ``apply``; so a
        generated sample can be laid over the image of another modality.
        """
        data = np.asarray(sample.data, dtype=np.float32)
        self._require_canonical(data)
        like = like or self.config.geometry
        low, high = sample.meta.get(RANGE) or self.config.value_bounds
        data = self._map_to_grid(like, sample).backward(np.clip(data, -1, 1), self.config.resize)
        values = (data.astype(np.float64) + 1) * ((high - low) / 2) + low
        meta = {key: value for key, value in sample.meta.items() if key not in (CANONICAL, RANGE)}
        units = {"units": self.config.units}
        return replace(sample, data=values.astype(np.float32), geometry=like, meta={**meta, **units})

    def _require_canonical(self, data: np.ndarray) -> None:
        expected = (self.config.channels, *self.config.space)
        if data.shape != expected:
            raise ValueError(f"a canonical sample is {expected}, found {data.shape}")

    def _map_to_grid(self, geometry: Geometry, sample: Sample) -> GridMapping:
        orientation = self.config.orientation if self.config.reorient else None
        try:
            return map_to_grid(
                geometry, self.config.geometry, orientation=orientation, keep_aspect=self.config.keep_aspect
            )
        except ValueError as error:
            raise UserError(
                f"{sample_name(sample)}: {error}; choose a preset for such data, or leave the file out"
            ) from error

    def _canonical_geometry(self, mapping: GridMapping, original: Geometry) -> Geometry:
        """Return the geometry of the mapping; the original object where nothing moved, so that nothing is rounded."""
        mapped = mapping.geometry
        same = mapped.shape == original.shape and np.allclose(mapped.affine, original.affine, rtol=0, atol=1e-9)
        return original if same else mapped

    def _require_source(self, sample: Sample) -> tuple[np.ndarray, Geometry]:
        data, geometry, name = sample.data, sample.geometry, sample_name(sample)
        if isinstance(data, str) or geometry is None or data.shape[1:] != geometry.shape:
            raise UserError(f"{name}: expected an array with its geometry; the reader gives both")
        channels = self.source_channels or self.config.channels
        if data.shape[0] != channels:
            raise UserError(f"{name}: has {data.shape[0]} channels, expected {channels}")
        if data.size == 0 or not np.isfinite(data).all():
            raise UserError(f"{name}: has no values, or NaN or infinite ones; the reader can replace them")
        return np.asarray(data, dtype=np.float32), geometry


def sample_name(sample: Sample) -> str:
    """Return the name of a sample in an error: its file where it has one."""
    return str(sample.meta.get("path") or f"sample of '{sample.modality}'")


def is_canonical(sample: Sample) -> bool:
    """Return whether a preprocessor made this sample, or `uncollate` took it out of a batch."""
    meta: Mapping[str, Any] = sample.meta
    return bool(meta.get(CANONICAL))
