"""Rotations, moves and smooth fields on a grid of any number of axes."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any, Literal

import numpy as np

from core.types import Space


def rotation(angles_deg: tuple[float, ...], spacing_mm: tuple[float, ...]) -> np.ndarray:
    """A rotation in mm as a matrix on array indices: one angle in 2-D, one about each axis in 3-D."""
    count = len(spacing_mm)
    planes = [(0, 1)] if count == 2 else [(1, 2), (0, 2), (0, 1)]
    matrix = np.eye(count)
    for (first, second), angle in zip(planes, np.deg2rad(angles_deg), strict=True):
        turn = np.eye(count)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    spacing = np.array(spacing_mm)
    return matrix * spacing[None, :] / spacing[:, None]


def warped(
    data: np.ndarray, matrix: np.ndarray, shift: np.ndarray, fill: float, order: Literal[0, 1] = 1
) -> tuple[np.ndarray, np.ndarray]:
    """``channel *space`` turned about its centre and moved by ``shift`` of each side.

    ``order`` 1 interpolates linearly, 0 takes the nearest point. Also gives the 4x4 matrix from new indices to old, so
    that ``affine @ matrix`` is the new affine.
    """
    count = data.ndim - 1
    shape = np.array(data.shape[1:])
    centre = (shape - 1) / 2
    offset = centre - matrix @ centre + shift * shape
    moved = np.eye(4)
    moved[:count, :count] = matrix
    moved[:count, 3] = offset
    if np.array_equal(moved, np.eye(4)):
        return data, moved
    from scipy.ndimage import affine_transform

    # scipy's stubs know a single offset only.
    how: dict[str, Any] = {"offset": offset, "order": order, "mode": "constant", "cval": fill}
    planes = [affine_transform(plane, matrix, **how) for plane in data]
    return np.stack(planes), moved


def bias_curve(space: Space, strengths: tuple[float, ...]) -> np.ndarray:
    """A polynomial of degree 2 over the grid, ``*space``: one strength per linear, then per quadratic term."""
    sides = np.meshgrid(*(np.linspace(-1, 1, size) for size in space), indexing="ij", sparse=True)
    terms = [*sides, *(first * second for first, second in combinations_with_replacement(sides, 2))]
    curve = np.zeros(space)
    for strength, term in zip(strengths, terms, strict=True):
        curve = curve + strength * term
    return curve
