"""Draw smooth random fields, for organic outlines, texture and bias fields."""

from __future__ import annotations

import numpy as np


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], knots: tuple[int, ...]) -> np.ndarray:
    """Return a random field of zero mean and about unit standard deviation, float32 ``shape``.

    Normal draws on ``knots`` points per axis are interpolated by raised cosines, which do not overshoot.
    """
    field = rng.standard_normal(knots).astype(np.float32)
    for axis, num in enumerate(shape):
        field = _interpolated(field, axis, num)
    return field * np.float32(1.25 ** len(shape))  # interpolation averages; this restores the standard deviation


def _interpolated(field: np.ndarray, axis: int, num: int) -> np.ndarray:
    position = np.linspace(0, field.shape[axis] - 1, num)
    low = np.minimum(position.astype(np.int64), field.shape[axis] - 2)
    weight = ((1 - np.cos(np.pi * (position - low))) / 2).astype(np.float32)
    weight = weight.reshape([-1 if other == axis else 1 for other in range(field.ndim)])
    return np.take(field, low, axis) * (1 - weight) + np.take(field, low + 1, axis) * weight
