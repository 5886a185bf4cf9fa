"""Array axes into the order and direction that a modality is trained in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from core.io.axes import directions
from core.types import Geometry

_SAME_PLANE = 0.5  # cosine; beyond 60 degrees an axis is another axis


@dataclass(frozen=True)
class Turn:
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


def turn_to(geometry: Geometry, orientation: str) -> Turn:
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
    return Turn(axes=tuple(order), flips=tuple(cosine < 0 for cosine in chosen))
