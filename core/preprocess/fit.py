"""How a grid of any size lies in the canonical grid: turned, padded to its aspect ratio, resampled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from core.preprocess.resample import Resize, resample
from core.preprocess.turn import Turn, turn_to
from core.types import Geometry, Space


@dataclass(frozen=True)
class Fit:
    """The canonical grid of ``space`` points covers ``[start, stop]`` of the turned source, in its pixels.

    ``source`` is the source's geometry after the turn. Nothing is cropped: the interval holds the whole source.
    """

    turn: Turn
    source: Geometry
    start: tuple[float, ...]
    stop: tuple[float, ...]
    space: Space

    def forward(self, data: np.ndarray, fill: float, how: Resize) -> np.ndarray:
        """``channel *source`` to ``channel *space``; ``fill`` where the source ends."""
        data = self.turn.apply(data)
        for axis, (start, stop, num) in enumerate(zip(self.start, self.stop, self.space, strict=True)):
            data = resample(data, axis + 1, start, stop, num, fill, how)
        return np.ascontiguousarray(data)

    def backward(self, data: np.ndarray, how: Resize) -> np.ndarray:
        """``channel *space`` to ``channel *source``, the padding cut off."""
        for axis, (start, stop, num) in enumerate(zip(self.start, self.stop, self.space, strict=True)):
            size = self.source.shape[axis]
            scale = num / (stop - start)
            data = resample(data, axis + 1, -start * scale, (size - start) * scale, size, 0.0, how)
        return np.ascontiguousarray(self.turn.undo(data))

    @property
    def geometry(self) -> Geometry:
        """Of the canonical grid: every landmark keeps its place in the world."""
        step, first = np.ones(3), np.zeros(3)
        count = len(self.space)
        step[:count] = (np.array(self.stop) - np.array(self.start)) / np.array(self.space)
        first[:count] = np.array(self.start) + (step[:count] - 1) / 2
        affine = self.source.affine.copy()
        affine[:3, 3] += self.source.affine[:3, :3] @ first
        affine[:3, :3] *= step
        return replace(self.source, affine=affine, shape=self.space)


def fit(geometry: Geometry, like: Geometry, *, orientation: str | None, keep_aspect: bool) -> Fit:
    """The `Fit` of data at ``geometry`` into the grid of ``like``, whose size in mm gives the aspect ratio.

    Without ``keep_aspect`` every axis is stretched on its own. `ValueError`: another number of axes or another plane.
    """
    count = len(geometry.shape)
    if count != len(like.shape):
        raise ValueError(f"it has {count} axes {geometry.shape}, expected {len(like.shape)}")
    turn = Turn(tuple(range(count)), (False,) * count)
    if orientation is not None:
        turn = turn_to(geometry, orientation)
    source = turn.geometry(geometry)
    shape = np.array(source.shape, dtype=np.float64)
    extent = shape.copy()
    if keep_aspect:
        # Source pixels per unit of the canonical size; the largest needed decides, so that nothing is cut off.
        size = np.array(like.shape) * np.array(like.spacing_mm) / np.array(source.spacing_mm)
        extent = size * (shape / size).max()
        extent = np.where(np.isclose(extent, shape, rtol=1e-6, atol=0), shape, extent)
    start, stop = (shape - extent) / 2, (shape + extent) / 2
    return Fit(turn, source, tuple(map(float, start)), tuple(map(float, stop)), like.shape)
