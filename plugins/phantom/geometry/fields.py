"""Smooth random fields: organic outlines, texture, bias fields."""

from __future__ import annotations

import numpy as np


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], knots: tuple[int, ...]) -> np.ndarray:
    """A random field of zero mean and about unit standard deviation, float32 ``shape``.

    Normal draws on ``knots`` points per axis, joined by raised cosines: no overshoot, and no more detail than that.
    """
    field = rng.standard_normal(knots).astype(np.float32)
    for axis, num in enumerate(shape):
        field = _joined(field, axis, num)
    return field * np.float32(1.25 ** len(shape))  # joining averages; this restores the spread


def _joined(field: np.ndarray, axis: int, num: int) -> np.ndarray:
    place = np.linspace(0, field.shape[axis] - 1, num)
    low = np.minimum(place.astype(np.int64), field.shape[axis] - 2)
    weight = ((1 - np.cos(np.pi * (place - low))) / 2).astype(np.float32)
    weight = weight.reshape([-1 if other == axis else 1 for other in range(field.ndim)])
    return np.take(field, low, axis) * (1 - weight) + np.take(field, low + 1, axis) * weight
