"""A slice out of a volume, with its place."""

from __future__ import annotations

import numpy as np

from core.types import Geometry


def middle_slice(data: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """The middle slice across the axis that runs most nearly head to foot; ``data`` is ``*space`` with three axes.

    The third column of the slice's affine is the step to the next slice.
    """
    upright = np.abs(geometry.affine[2, :3]) / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    axis = int(np.argmax(upright))
    index = data.shape[axis] // 2
    order = [kept for kept in range(3) if kept != axis] + [axis]
    affine = geometry.affine[:, [*order, 3]]
    affine[:3, 3] = geometry.affine[:3, 3] + index * geometry.affine[:3, axis]
    plane = np.take(data, index, axis=axis)
    return plane, Geometry(affine=affine, shape=plane.shape, stored={**geometry.stored, "slice": index})
