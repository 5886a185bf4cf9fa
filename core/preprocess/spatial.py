"""How a grid of any size lies in the canonical grid: turned, padded to its aspect ratio, resampled.

Array axes into the order and direction that a modality is trained in.

An interval of an axis onto another number of points: averages downwards, interpolation upwards, or the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

import numpy as np

from core.io.geometry import directions
from core.types import Geometry, Space

_SAME_PLANE = 0.5  # cosine; beyond 60 degrees an axis is another axis


@dataclass(frozen=True)
class Reorientation:
    """New axis ``k`` is old axis ``axes[k]``, reversed where ``flips[k]``. No interpolation."""

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    def apply(self, data: np.ndarray) -> np.ndarray:
        """``channel *space`` turned."""
        turned = np.transpose(data, (0, *(axis + 1 for axis in self.axes)))
        return np.flip(turned, self._flipped())

    def undo(self, data: np.ndarray) -> np.ndarray:
        """``channel *space`` turned back."""
        back = np.argsort(self.axes)
        return np.transpose(np.flip(data, self._flipped()), (0, *(int(axis) + 1 for axis in back)))

    def geometry(self, geometry: Geometry) -> Geometry:
        """The geometry of turned data: every point stays where it is in the world."""
        affine = geometry.affine.copy()
        for new, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            step = geometry.affine[:3, old]
            affine[:3, new] = -step if flip else step
            if flip:
                affine[:3, 3] += step * (geometry.shape[old] - 1)
        return replace(geometry, affine=affine + 0.0, shape=tuple(geometry.shape[axis] for axis in self.axes))

    def _flipped(self) -> tuple[int, ...]:
        return tuple(axis + 1 for axis, flip in enumerate(self.flips) if flip)


def reorient_to(geometry: Geometry, orientation: str) -> Reorientation:
    """The turn that brings the array axes nearest to ``orientation``.

    `ValueError` when no order does: a sagittal slice is no axial one.
    """
    count = len(geometry.shape)
    steps = geometry.affine[:3, :count]
    cosines = (steps / np.linalg.norm(steps, axis=0)).T @ directions(orientation)
    columns = range(count)
    order = max(permutations(columns), key=lambda axes: sum(abs(cosines[axes[k], k]) for k in columns))
    chosen = [float(cosines[order[k], k]) for k in columns]
    if min(map(abs, chosen)) < _SAME_PLANE:
        raise ValueError(f"its axes run {geometry.orientation}, which is another plane than '{orientation}'")
    return Reorientation(axes=tuple(order), flips=tuple(cosine < 0 for cosine in chosen))


Resize = Literal["area", "nearest"]
_TIE = 1e-6  # pixels; rounding does not decide which of two is nearer


def resample(
    data: np.ndarray, axis: int, start: float, stop: float, num: int, fill: float = 0.0, how: Resize = "area"
) -> np.ndarray:
    """``data`` along ``axis`` on ``num`` points that cover ``[start, stop]``.

    Pixel ``i`` covers ``[i, i + 1]``; what the interval has beyond the data counts as ``fill``. ``"area"`` averages
    exactly where points get fewer and interpolates linearly where they get more; ``"nearest"`` keeps labels, see
    `nearest`.
    """
    size = data.shape[axis]
    if (start, stop, num) == (0, size, size):
        return data
    if how == "nearest":
        return nearest(data, axis, start, stop, num, fill)
    matrix = weights(size, start, stop, num).astype(data.dtype)
    moved = np.tensordot(matrix, data - data.dtype.type(fill), axes=(1, axis))
    return np.moveaxis(moved, 0, axis) + data.dtype.type(fill)


def nearest(data: np.ndarray, axis: int, start: float, stop: float, num: int, fill: float) -> np.ndarray:
    """The pixel that lies nearest to each point.

    Where two are equally near, by turns the larger and the smaller value counts: the pixel of one side would move
    everything that is drawn to the other (by half a pixel at 2:1), and one value would let it grow or shrink.
    """
    centre, inside = _centres(data.shape[axis], start, stop, num)
    last = data.shape[axis] - 1
    right = np.clip(np.floor(centre + 0.5 + _TIE), 0, last).astype(int)
    left = np.clip(np.ceil(centre - 0.5 - _TIE), 0, last).astype(int)
    tied = np.flatnonzero(left != right)
    rows = np.moveaxis(data, axis, 0)
    found = rows[right]
    for turn, larger_or_smaller in enumerate((np.maximum, np.minimum)):
        own = tied[turn::2]
        found[own] = larger_or_smaller(rows[left[own]], rows[right[own]])
    found[~inside] = fill
    return np.moveaxis(found, 0, axis)


def _centres(size: int, start: float, stop: float, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the points lie, in indices of pixels, and which of them lie in the data."""
    centre = start + (stop - start) / num * (np.arange(num) + 0.5) - 0.5
    return centre, (centre >= -0.5) & (centre <= size - 0.5)


def weights(size: int, start: float, stop: float, num: int) -> np.ndarray:
    """Share of each of ``size`` pixels in each of ``num`` points: ``num size``; a row sums to the part inside."""
    step = (stop - start) / num
    if step >= 1:
        low = start + step * np.arange(num)[:, None]
        pixel = np.arange(size)[None]
        return np.clip(np.minimum(low + step, pixel + 1) - np.maximum(low, pixel), 0, None) / step
    centre, inside = _centres(size, start, stop, num)
    centre = np.clip(centre, 0, size - 1)
    left = np.floor(centre).astype(int)
    matrix = np.zeros((num, size))
    np.add.at(matrix, (np.arange(num), left), (1 - (centre - left)) * inside)
    np.add.at(matrix, (np.arange(num), np.minimum(left + 1, size - 1)), (centre - left) * inside)
    return matrix


@dataclass(frozen=True)
class GridMapping:
    """The canonical grid of ``space`` points covers ``[start, stop]`` of the turned source, in its pixels.

    ``source`` is the source's geometry after the turn. Nothing is cropped: the interval holds the whole source.
    """

    turn: Reorientation
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


def map_to_grid(geometry: Geometry, like: Geometry, *, orientation: str | None, keep_aspect: bool) -> GridMapping:
    """The `GridMapping` of data at ``geometry`` into the grid of ``like``, whose size in mm gives the aspect ratio.

    Without ``keep_aspect`` every axis is stretched on its own. `ValueError`: another number of axes or another plane.
    """
    count = len(geometry.shape)
    if count != len(like.shape):
        raise ValueError(f"it has {count} axes {geometry.shape}, expected {len(like.shape)}")
    turn = Reorientation(tuple(range(count)), (False,) * count)
    if orientation is not None:
        turn = reorient_to(geometry, orientation)
    source = turn.geometry(geometry)
    shape = np.array(source.shape, dtype=np.float64)
    extent = shape.copy()
    if keep_aspect:
        # Source pixels per unit of the canonical size; the largest needed decides, so that nothing is cut off.
        size = np.array(like.shape) * np.array(like.spacing_mm) / np.array(source.spacing_mm)
        extent = size * (shape / size).max()
        extent = np.where(np.isclose(extent, shape, rtol=1e-6, atol=0), shape, extent)
    start, stop = (shape - extent) / 2, (shape + extent) / 2
    return GridMapping(turn, source, tuple(map(float, start)), tuple(map(float, stop)), like.shape)
