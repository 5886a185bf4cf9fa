"""Grids as boxes along the axes of the patient, and the fixed linear map P from one to another (method F7)."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from core.guide.positions import known_axes
from core.types import AxisCells, Geometry, PatientGrid, Space

OBLIQUE_DEGREES = 15.0  # up to which a turned grid counts as one along the axes that it follows most
_OVERLAP = 1e-3  # of a cell: fields of view that only touch share nothing


def patient_grid(geometry: Geometry | None, grid: Space) -> PatientGrid | None:
    """Return the cells when the field of view of ``geometry`` is cut into ``grid`` (method F7).

    ``None`` where nothing is aligned: without geometry or space, for an image whose position is unknown, and for a grid
    that is turned by more than `OBLIQUE_DEGREES` against the patient's axes. A slice has one cell along its normal, as
    thick as it says. A projection does not know the axis along which it was summed.
    """
    if geometry is None or len(geometry.shape) != len(grid) or not any(known := known_axes(geometry)):
        return None
    affine = geometry.resized(grid).affine
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axes = tuple(int(axis) for axis in np.abs(directions).argmax(0))
    straight = np.abs(directions).max(0) >= math.cos(math.radians(OBLIQUE_DEGREES))
    if len(set(axes)) < 3 or not straight.all():
        return None
    sides = (*grid, *[1] * (3 - len(grid)))
    centre = affine[:3, :3] @ ((np.array(sides) - 1) / 2) + affine[:3, 3]
    cells: list[AxisCells | None] = [None, None, None]
    for column, (axis, num) in enumerate(zip(axes, sides, strict=True)):
        if known[axis]:
            step = float(affine[axis, column])
            cells[axis] = AxisCells(num, round(float(centre[axis]) - step * (num - 1) / 2, 6), round(step, 6))
    return PatientGrid(cells=(cells[0], cells[1], cells[2]), order=axes[: len(grid)])


@lru_cache(maxsize=512)
def axis_matrix(sender: AxisCells, receiver: AxisCells) -> Tensor | None:
    """Return P along one axis that both know, float32 ``receiver sender``; ``None`` for the identity (method F7).

    A triangle as wide as the coarser of both spacings weighs the cells of the sender: linear interpolation on a finer
    grid, an antialiased mean on a coarser one. Rows have sum 1 where the cell overlaps the sender's field of view, and
    are 0 elsewhere.
    """
    if sender == receiver:
        return None
    here, there = (each.first_mm + each.step_mm * np.arange(each.num) for each in (receiver, sender))
    size, other = abs(receiver.step_mm), abs(sender.step_mm)
    weight = 1 - np.abs(here[:, None] - there) / max(size, other)
    weight[weight < 1e-9] = 0
    first, last = there.min() - other / 2, there.max() + other / 2
    overlap = np.minimum(here + size / 2, last) - np.maximum(here - size / 2, first)
    covered = overlap > _OVERLAP * min(size, other)
    matrix = np.where(covered[:, None], weight / np.maximum(weight.sum(1, keepdims=True), 1e-9), 0)
    # A tensor first made under inference_mode could not be used in training later.
    with torch.inference_mode(False):
        return torch.from_numpy(matrix.astype(np.float32))


@lru_cache(maxsize=512)
def _on_device(sender: AxisCells, receiver: AxisCells, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    matrix = axis_matrix(sender, receiver)
    with torch.inference_mode(False), torch.no_grad():
        return None if matrix is None else matrix.to(device, dtype)


def resampled(features: Tensor, sender: PatientGrid, receiver: PatientGrid) -> Tensor:
    """Return P(h), ``batch width R A S``, for features ``batch width *grid`` of the sender (method F7).

    Along an axis that the receiver does not know, and along one that only the receiver knows, there is a single cell:
    the mean over the sender's cells, or a value that holds everywhere.
    """
    hidden = to_patient_axes(features, sender)
    for axis, (theirs, ours) in enumerate(zip(sender.cells, receiver.cells, strict=True), start=2):
        if theirs is None:
            continue
        if ours is None:
            hidden = hidden.mean(axis, keepdim=True)
        elif (matrix := _on_device(theirs, ours, hidden.device, hidden.dtype)) is not None:
            hidden = (hidden.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return hidden


def to_patient_axes(features: Tensor, grid: PatientGrid) -> Tensor:
    """Return ``batch width *grid`` as ``batch width R A S``; axes that are no array axis have one cell."""
    present = sorted(grid.order)
    ordered = features.permute(0, 1, *(2 + grid.order.index(axis) for axis in present))
    sides = [1, 1, 1]
    for axis, side in zip(present, ordered.shape[2:], strict=True):
        sides[axis] = side
    return ordered.reshape(*features.shape[:2], *sides)


def from_patient_axes(features: Tensor, grid: PatientGrid, space: Space) -> Tensor:
    """Return ``batch width R A S``, where a single cell holds everywhere, as ``batch width *space`` of a grid."""
    sides = [1, 1, 1]
    for axis, side in zip(grid.order, space, strict=True):
        sides[axis] = side
    rest = [axis for axis in range(3) if axis not in grid.order]
    full = features.expand(*features.shape[:2], *sides)
    return full.permute(0, 1, *(2 + axis for axis in (*grid.order, *rest))).reshape(*features.shape[:2], *space)
