"""Map a grid of any size to the canonical grid: reorient its axes, pad it to the aspect ratio, resample it."""

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
    """A permutation and reversal of axes: new axis ``k`` is old axis ``axes[k]``, reversed where ``flips[k]``."""

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Return ``channel *space`` with reoriented axes."""
        permuted = np.transpose(data, (0, *(axis + 1 for axis in self.axes)))
        return np.flip(permuted, self._flipped_axes())

    def undo(self, data: np.ndarray) -> np.ndarray:
        """Return ``channel *space`` with its original axes."""
        back = np.argsort(self.axes)
        return np.transpose(np.flip(data, self._flipped_axes()), (0, *(int(axis) + 1 for axis in back)))

    def geometry(self, geometry: Geometry) -> Geometry:
        """Return the geometry of reoriented data: every point has the same world position as before."""
        affine = geometry.affine.copy()
        for new, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            step = geometry.affine[:3, old]
            affine[:3, new] = -step if flip else step
            if flip:
                affine[:3, 3] += step * (geometry.shape[old] - 1)
        return replace(geometry, affine=affine + 0.0, shape=tuple(geometry.shape[axis] for axis in self.axes))

    def _flipped_axes(self) -> tuple[int, ...]:
        return tuple(axis + 1 for axis, flip in enumerate(self.flips) if flip)


def reorient_to(geometry: Geometry, orientation: str) -> Reorientation:
    """Return the reorientation that brings the array axes nearest to ``orientation``.

    `ValueError` where no order of axes does: a sagittal slice is no axial one.
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
_TIE = 1e-6  # pixels; rounding must not decide which of two is nearer


def resample(
    data: np.ndarray, axis: int, start: float, stop: float, num: int, fill: float = 0.0, how: Resize = "area"
) -> np.ndarray:
    """Resample ``data`` along ``axis`` on ``num`` points that cover ``[start, stop]``.

    Pixel ``i`` covers ``[i, i + 1]``; the part of the interval outside the data counts as ``fill``. ``"area"`` averages
    exactly where points become fewer and interpolates linearly where they become more; ``"nearest"`` preserves labels,
    see `nearest`.
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
    """Return the pixel that lies nearest to each point.

    Where two are equally near, the larger and the smaller value count alternately. The pixel of one side would move
    every structure to the other side (by half a pixel at 2:1), and one of the values would let it grow or shrink.
    """
    centre, inside = _centres(data.shape[axis], start, stop, num)
    last = data.shape[axis] - 1
    right = np.clip(np.floor(centre + 0.5 + _TIE), 0, last).astype(int)
    left = np.clip(np.ceil(centre - 0.5 - _TIE), 0, last).astype(int)
    tied = np.flatnonzero(left != right)
    rows = np.moveaxis(data, axis, 0)
    result = rows[right]
    for start_at, larger_or_smaller in enumerate((np.maximum, np.minimum)):
        points = tied[start_at::2]
        result[points] = larger_or_smaller(rows[left[points]], rows[right[points]])
    result[~inside] = fill
    return np.moveaxis(result, 0, axis)


def _centres(size: int, start: float, stop: float, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the points, in indices of pixels, and which of them lie in the data."""
    centre = start + (stop - start) / num * (np.arange(num) + 0.5) - 0.5
    return centre, (centre >= -0.5) & (centre <= size - 0.5)


def weights(size: int, start: float, stop: float, num: int) -> np.ndarray:
    """Return the weight of each of ``size`` pixels in each of ``num`` points, ``num size``.

    A row sums to the fraction of the point that lies in the data.
    """
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
    """The mapping of a source to the canonical grid, whose ``space`` points cover ``[start, stop]`` of the source.

    ``source`` is the geometry of the source after reorientation; ``start`` and ``stop`` are in its pixels. Nothing is
    cropped: the interval holds the whole source.
    """

    reorientation: Reorientation
    source: Geometry
    start: tuple[float, ...]
    stop: tuple[float, ...]
    space: Space

    def forward(self, data: np.ndarray, fill: float, how: Resize) -> np.ndarray:
        """Map ``channel *source`` to ``channel *space``; ``fill`` where the source ends."""
        data = self.reorientation.apply(data)
        for axis, (start, stop, num) in enumerate(zip(self.start, self.stop, self.space, strict=True)):
            data = resample(data, axis + 1, start, stop, num, fill, how)
        return np.ascontiguousarray(data)

    def backward(self, data: np.ndarray, how: Resize) -> np.ndarray:
        """Map ``channel *space`` to ``channel *source`` without the padding."""
        for axis, (start, stop, num) in enumerate(zip(self.start, self.stop, self.space, strict=True)):
            size = self.source.shape[axis]
            scale = num / (stop - start)
            data = resample(data, axis + 1, -start * scale, (size - start) * scale, size, 0.0, how)
        return np.ascontiguousarray(self.reorientation.undo(data))

    @property
    def geometry(self) -> Geometry:
        """Return the geometry of the canonical grid: every landmark has the same world position as before."""
        step, first = np.ones(3), np.zeros(3)
        count = len(self.space)
        step[:count] = (np.array(self.stop) - np.array(self.start)) / np.array(self.space)
        first[:count] = np.array(self.start) + (step[:count] - 1) / 2
        affine = self.source.affine.copy()
        affine[:3, 3] += self.source.affine[:3, :3] @ first
        affine[:3, :3] *= step
        return replace(self.source, affine=affine, shape=self.space)


def map_to_grid(geometry: Geometry, like: Geometry, *, orientation: str | None, keep_aspect: bool) -> GridMapping:
    """Return the mapping of data at ``geometry`` to the grid of ``like``, whose size in mm gives the aspect ratio.

    Without ``keep_aspect`` every axis is stretched separately. `ValueError`: another number of axes or another plane.
    """
    count = len(geometry.shape)
    if count != len(like.shape):
        raise ValueError(f"it has {count} axes {geometry.shape}, expected {len(like.shape)}")
    reorientation = Reorientation(tuple(range(count)), (False,) * count)
    if orientation is not None:
        reorientation = reorient_to(geometry, orientation)
    source = reorientation.geometry(geometry)
    shape = np.array(source.shape, dtype=np.float64)
    extent = shape.copy()
    if keep_aspect:
        # Source pixels per unit of the canonical size; the largest ratio decides, so that nothing is cut off.
        size = np.array(like.shape) * np.array(like.spacing_mm) / np.array(source.spacing_mm)
        extent = size * (shape / size).max()
        extent = np.where(np.isclose(extent, shape, rtol=1e-6, atol=0), shape, extent)
    start, stop = (shape - extent) / 2, (shape + extent) / 2
    return GridMapping(reorientation, source, tuple(map(float, start)), tuple(map(float, stop)), like.shape)
