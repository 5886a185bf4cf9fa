"""The work grid: voxel centres in mm, axes (R, A, S), origin at the isocentre."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Describe ``shape`` cubic voxels of ``spacing_mm``. Arrays are ``[x, y, z]``, each index growing as its axis does.

    The default holds a chest from the lower neck to the upper abdomen, 432 x 288 x 416 mm.
    """

    shape: tuple[int, int, int] = (108, 72, 104)
    spacing_mm: float = 4.0

    def axis(self, which: int) -> np.ndarray:
        """Return the voxel centres along an axis, mm, float32."""
        num = self.shape[which]
        return ((np.arange(num) - (num - 1) / 2) * self.spacing_mm).astype(np.float32)

    @cached_property
    def x(self) -> np.ndarray:
        """Return x, ``(X, 1, 1)``, which grows towards the patient's right."""
        return self.axis(0)[:, None, None]

    @cached_property
    def y(self) -> np.ndarray:
        """Return y, ``(1, Y, 1)``, which grows anterior."""
        return self.axis(1)[None, :, None]

    @cached_property
    def z(self) -> np.ndarray:
        """Return z, ``(1, 1, Z)``, which grows superior."""
        return self.axis(2)[None, None, :]

    @property
    def whole(self) -> Box:
        """Return the box of all voxels."""
        return (slice(None), slice(None), slice(None))

    def index(self, which: int, position_mm: float) -> int:
        """Return the index of the voxel nearest to a position along an axis."""
        num = self.shape[which]
        return int(np.clip(np.rint(position_mm / self.spacing_mm + (num - 1) / 2), 0, num - 1))

    def box(self, low: Point, high: Point) -> Box:
        """Return the box between two corners, extended by a voxel on each side."""
        return tuple(  # type: ignore[return-value]
            slice(max(0, self.index(axis, low[axis]) - 1), self.index(axis, high[axis]) + 2) for axis in range(3)
        )

    def inside(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the three coordinate arrays of a box, ready to broadcast."""
        return self.x[box[0]], self.y[:, box[1]], self.z[:, :, box[2]]
