"""Positions of the tokens of a grid in the patient, and their waves (method F2)."""

from __future__ import annotations

import math

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from core.errors import UserError
from core.types import Geometry, Space

WAVELENGTHS_MM = tuple(8.0 * 2**power for power in range(8))  # finer than any token grid, coarser than any field
NUM_WAVES = 2 * len(WAVELENGTHS_MM)  # cosines and sines, per axis
NUM_FEATURES = 3 * NUM_WAVES + 3


def known_axes(geometry: Geometry | None) -> tuple[bool, bool, bool]:
    """Return along which of (R, A, S) the points of this geometry have a known position.

    In a volume and a slice all three are known, in a projection those that it was not summed along, without geometry
    none. For a 2-D image ``source_header["projection"]`` decides between slice and projection. Where it is missing, an
    image across the body's long axis (S) counts as a slice and any other as a projection, so that no axis is claimed
    wrongly. An image with ``source_header["unplaced"]`` has no known axis.
    """
    if geometry is None or geometry.source_header.get("unplaced"):
        return False, False, False
    if len(geometry.shape) != 2:
        return True, True, True
    normal = np.cross(geometry.affine[:3, 0], geometry.affine[:3, 1])
    summed = int(np.argmax(np.abs(normal)))
    if not geometry.source_header.get("projection", summed != 2):
        return True, True, True
    return summed != 0, summed != 1, summed != 2


def grid_positions(geometry: Geometry | None, grid: Space) -> tuple[Tensor, Tensor]:
    """Return the centres of the cells when the field of view is cut into ``grid``; row by row.

    Float32 ``length 3`` in mm, (R, A, S), and bool ``length 3``; a position is 0 along an axis that is not known.
    Raises `UserError` where geometry and grid differ in their number of axes.
    """
    length = math.prod(grid)
    if geometry is None:
        return torch.zeros(length, 3), torch.zeros(length, 3, dtype=torch.bool)
    if len(geometry.shape) != len(grid):
        raise UserError(
            f"a geometry of shape {geometry.shape} does not fit a token grid {grid}: both need the same number of axes"
        )
    index = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(length, len(grid))
    affine = geometry.resized(grid).affine
    position = torch.from_numpy(index @ affine[:3, : len(grid)].T + affine[:3, 3]).float()
    axes = torch.tensor(known_axes(geometry)).expand(length, 3).clone()
    return position * axes, axes


def spacing_mm(position: Tensor) -> float:
    """Return the longest distance from a cell to its nearest neighbour, mm; 0 for a single cell.

    ``position`` ``length 3``.
    """
    if len(position) < 2:
        return 0.0
    distance = torch.cdist(position, position)
    distance[distance < 1e-3] = math.inf  # itself, and cells that differ along an unknown axis only
    nearest = distance.amin(1)
    return float(nearest[nearest.isfinite()].amax()) if nearest.isfinite().any() else 0.0


def waves(position_mm: Tensor, axes: Tensor) -> Tensor:
    """Return cosines and sines of a position at `WAVELENGTHS_MM`, 0 along unknown axes (method F2).

    ``... 3`` to ``... 3 NUM_WAVES``. The product of two, summed, is the sum of cos(2π Δ / wavelength).
    """
    frequency = 2 * math.pi / position_mm.new_tensor(WAVELENGTHS_MM)
    angle = position_mm[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1) * axes[..., None]


def position_features(position_mm: Tensor, axes: Tensor) -> Tensor:
    """Return the waves of a position and its axis mask as one vector: ``... 3`` to ``... NUM_FEATURES`` (method F2)."""
    return torch.cat([waves(position_mm, axes).flatten(-2), axes.to(position_mm)], -1)


def distance_cosines(position_mm: Tensor, axes: Tensor, other_mm: Tensor, other_axes: Tensor) -> Tensor:
    """Return the sum over the axes that both know of cos(2π Δ / wavelength), ``... wavelength length other`` (F2).

    ``length 3`` each, ``other`` with any axes before; cos(a - b) is cos a cos b + sin a sin b.
    """
    first, second = (
        rearrange(waves(*each), "... length space (part wave) -> ... wave length (space part)", part=2)
        for each in ((position_mm, axes), (other_mm, other_axes))
    )
    return first @ second.mT
