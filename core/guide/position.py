"""Where the tokens of a grid lie in the patient, and how a network is told (METHOD F2)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from core.errors import UserError
from core.types import Geometry, Space

WAVELENGTHS_MM = tuple(8.0 * 2**power for power in range(8))  # finer than any token grid, coarser than any field
NUM_WAVES = 2 * len(WAVELENGTHS_MM)  # cosines and sines, per axis
NUM_FEATURES = 3 * NUM_WAVES + 3


def known_axes(geometry: Geometry | None) -> tuple[bool, bool, bool]:
    """Which of (R, A, S) a point of this geometry knows.

    A volume and a slice know all three, a projection only those that it was not summed along, data without geometry
    none. Of a 2-D image ``stored["projection"]`` says which it is; where nothing is said, an image across the body's
    long axis (S) is a slice and any other a projection, which claims less than it might know, never more. A picture
    that is ``stored["unplaced"]`` knows none.
    """
    if geometry is None or geometry.stored.get("unplaced"):
        return False, False, False
    if len(geometry.shape) != 2:
        return True, True, True
    normal = np.cross(geometry.affine[:3, 0], geometry.affine[:3, 1])
    summed = int(np.argmax(np.abs(normal)))
    if not geometry.stored.get("projection", summed != 2):
        return True, True, True
    return summed != 0, summed != 1, summed != 2


def grid_positions(geometry: Geometry | None, grid: Space) -> tuple[Tensor, Tensor]:
    """Centres of the cells when the field of view is cut into ``grid``; row by row.

    Float32 ``length 3`` in mm, (R, A, S), and bool ``length 3``; a position is 0 along an axis that is not known.
    Raises `UserError` where geometry and grid differ in their number of axes.
    """
    length = math.prod(grid)
    if geometry is None:
        return torch.zeros(length, 3), torch.zeros(length, 3, dtype=torch.bool)
    if len(geometry.shape) != len(grid):
        raise UserError(f"a geometry of shape {geometry.shape} cannot place a grid {grid}: one axis each is needed")
    index = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(length, len(grid))
    affine = geometry.resized(grid).affine
    position = torch.from_numpy(index @ affine[:3, : len(grid)].T + affine[:3, 3]).float()
    axes = torch.tensor(known_axes(geometry)).expand(length, 3).clone()
    return position * axes, axes


def spacing_mm(position: Tensor) -> float:
    """The longest distance from a cell to its nearest neighbour, mm; 0 for a single cell. ``position`` ``length 3``."""
    if len(position) < 2:
        return 0.0
    distance = torch.cdist(position, position)
    distance[distance < 1e-3] = math.inf  # itself, and cells that differ along an unknown axis only
    nearest = distance.amin(1)
    return float(nearest[nearest.isfinite()].amax()) if nearest.isfinite().any() else 0.0


def waves(position_mm: Tensor, axes: Tensor) -> Tensor:
    """Cosines and sines of a position at `WAVELENGTHS_MM`, 0 along unknown axes (METHOD F2).

    ``... 3`` to ``... 3 NUM_WAVES``. The product of two, summed, is the sum of cos(2π Δ / wavelength).
    """
    frequency = 2 * math.pi / position_mm.new_tensor(WAVELENGTHS_MM)
    angle = position_mm[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1) * axes[..., None]


def position_features(position_mm: Tensor, axes: Tensor) -> Tensor:
    """The waves of a position and its axis mask in one vector: ``... 3`` to ``... NUM_FEATURES`` (METHOD F2)."""
    return torch.cat([waves(position_mm, axes).flatten(-2), axes.to(position_mm)], -1)
