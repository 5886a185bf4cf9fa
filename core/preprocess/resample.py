"""An interval of an axis onto another number of points: averages downwards, interpolation upwards, or the nearest."""

from __future__ import annotations

from typing import Literal

import numpy as np

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
