"""Array axes to DICOM's patient coordinates, and numbers to stored integers.

MedWeave's world is (R, A, S), DICOM's (L, P, S): the first two coordinates change sign. Array axes are slices, rows,
columns (rows, columns for a slice), as `core.types.Geometry` has them in its columns; so, with ``a`` the columns of the
affine in (L, P, S), row ``i`` and column ``j`` of slice ``k`` lie at ``position + a_row i + a_column j`` with
``position = origin + a_slice k`` (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import UserError
from core.io.files import require_storable
from core.types import Geometry, Sample

_TO_LPS = np.array([-1.0, -1.0, 1.0])
_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
_SQUARE = 1e-4  # cosine between rows and columns that still counts as a right angle (PS3.3 C.7.6.2.1.1)
_SLIGHT = 0.1  # share of a direction below which its letter is left out


@dataclass(frozen=True)
class Plane:
    """One slice. ``orientation``: the direction of a row, then of a column, unit vectors in (L, P, S)."""

    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]  # between rows, between columns
    thickness_mm: float


def planes(geometry: Geometry, path: Path) -> list[Plane]:
    """Return the slices of a volume or a 2-D image; `UserError` where rows and columns are not at a right angle."""
    steps = geometry.affine[:3, :3] * _TO_LPS[:, None]
    row, column, through = (steps[:, 1], steps[:, 2], steps[:, 0]) if len(geometry.shape) == 3 else steps.T
    # DICOM's "row" is the direction in which the column index grows.
    along, down = (_unit(column), _unit(row))
    if abs(along @ down) > _SQUARE:
        raise UserError(
            f"{path}: its rows and columns meet at {np.degrees(np.arccos(along @ down)):.2f} degrees, and DICOM takes"
            " right angles; resample it to a square grid"
        )
    origin = geometry.affine[:3, 3] * _TO_LPS
    num = geometry.shape[0] if len(geometry.shape) == 3 else 1
    thickness = float(abs(through @ np.cross(along, down)))
    spacing = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    orientation = tuple(float(cosine) + 0.0 for cosine in (*along, *down))  # no -0
    return [Plane(tuple(map(float, origin + k * through)), orientation, spacing, thickness) for k in range(num)]


def patient_orientation(geometry: Geometry) -> list[str]:
    """Return Patient Orientation (0020,0020) of a 2-D image: where its rows run, then its columns, as ``L``, ``F``.

    A slanted axis has the letters of its smaller parts behind the first (PS3.3 C.7.6.1.1.1).
    """
    return [_letters(geometry.affine[:3, axis] * _TO_LPS) for axis in (1, 0)]


def stored_levels(
    sample: Sample, path: Path, axes: int, step: float, limits: tuple[int, int], zero: float = 0.0
) -> np.ndarray:
    """Return values as multiples of ``step`` above ``zero``, ``slices rows columns`` (one slice for 2-D).

    `UserError`: other than one channel, no geometry, other axes, NaN, or values beyond ``limits``.
    """
    data = require_storable(sample, path, axes=(axes,))
    if sample.geometry is None or data.shape[0] != 1:
        content = "no geometry" if sample.geometry is None else f"{data.shape[0]} channels"
        raise UserError(f"{path}: the sample has {content}; DICOM takes one channel with its geometry")
    if max(data.shape) > np.iinfo(np.uint16).max:
        raise UserError(f"{path}: shape {data.shape[1:]}; an axis of a DICOM image has at most 65,535 points")
    volume = data[0] if axes == 3 else data
    if not np.isfinite(volume).all():
        raise UserError(f"{path}: the sample has NaN or infinite values; nothing was written")
    levels = volume.astype(np.float64)
    levels -= zero
    levels /= step
    np.rint(levels, out=levels)
    if levels.min() < limits[0] or levels.max() > limits[1]:
        raise UserError(
            f"{path}: values from {volume.min():g} to {volume.max():g} leave what is stored,"
            f" {zero + limits[0] * step:g} to {zero + limits[1] * step:g}; rescale them"
        )
    return levels.astype(np.int32)


def decimal(value: float) -> str:
    """Return a number in the 16 characters that a decimal string has (PS3.5 6.2)."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _letters(direction: np.ndarray) -> str:
    share = direction / np.linalg.norm(direction)
    order = [axis for axis in np.argsort(-np.abs(share), kind="stable") if abs(share[axis]) > _SLIGHT]
    return "".join(_LETTERS[axis][int(share[axis] > 0)] for axis in order)
