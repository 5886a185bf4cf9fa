"""An interval of an axis onto another number of points: exact averages downwards, linear interpolation upwards."""

from __future__ import annotations

from typing import Literal

import numpy as np

Resize = Literal["area", "nearest"]


def resample(
    data: np.ndarray, axis: int, start: float, stop: float, num: int, fill: float = 0.0, how: Resize = "area"
) -> np.ndarray:
    """``data`` along ``axis`` on ``num`` points that cover ``[start, stop]``.

    Pixel ``i`` covers ``[i, i + 1]``; what the interval has beyond the data counts as ``fill``. ``"area"`` averages
    exactly where points get fewer and interpolates linearly where they get more; ``"nearest"`` keeps labels.
    """
    size = data.shape[axis]
    if (start, stop, num) == (0, size, size):
        return data
    matrix = weights(size, start, stop, num, how).astype(data.dtype)
    moved = np.tensordot(matrix, data - data.dtype.type(fill), axes=(1, axis))
    return np.moveaxis(moved, 0, axis) + data.dtype.type(fill)


def weights(size: int, start: float, stop: float, num: int, how: Resize = "area") -> np.ndarray:
    """Share of each of ``size`` pixels in each of ``num`` points: ``num size``; a row sums to the part inside."""
    step = (stop - start) / num
    if how == "area" and step >= 1:
        low = start + step * np.arange(num)[:, None]
        pixel = np.arange(size)[None]
        return np.clip(np.minimum(low + step, pixel + 1) - np.maximum(low, pixel), 0, None) / step
    centre = start + step * (np.arange(num) + 0.5) - 0.5
    inside = (centre >= -0.5) & (centre <= size - 0.5)
    centre = np.clip(np.floor(centre + 0.5) if how == "nearest" else centre, 0, size - 1)
    left = np.floor(centre).astype(int)
    matrix = np.zeros((num, size))
    np.add.at(matrix, (np.arange(num), left), (1 - (centre - left)) * inside)
    np.add.at(matrix, (np.arange(num), np.minimum(left + 1, size - 1)), (centre - left) * inside)
    return matrix
