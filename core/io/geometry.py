"""Directions of array axes in the patient, the geometry of files that state no position, and slices of volumes.

Which slice of a volume is read is configured, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from core.errors import UserError
from core.types import Geometry, Sample, Space

_WORLD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def _require_orientation(orientation: str) -> str:
    worlds = [_WORLD[letter][0] for letter in orientation if letter in _WORLD]
    if len(worlds) != len(orientation) or len(set(worlds)) != len(worlds) or len(worlds) not in (2, 3):
        raise ValueError("an orientation is 2 or 3 letters, one each of R/L, A/P and S/I, such as 'IL' or 'SPL'")
    return orientation


Orientation = Annotated[str, AfterValidator(_require_orientation)]
"""Where each array axis points. ``"IL"``: rows run inferior, columns run to the patient's left (a frontal
radiograph as displayed). ``"SPL"``: slices run superior, then axial rows run posterior and columns left."""


def directions(orientation: str) -> np.ndarray:
    """Return unit world vectors (R, A, S), one column per letter: ``3 axes``."""
    columns = np.zeros((3, len(_require_orientation(orientation))))
    for axis, letter in enumerate(orientation):
        world, sign = _WORLD[letter]
        columns[world, axis] = sign
    return columns


def centred(shape: Space, spacing_mm: tuple[float, ...], orientation: str, **source_header: object) -> Geometry:
    """Return the geometry of data whose position is unknown: the centre of the field of view is the world's origin.

    ``shape``, ``spacing_mm`` (mm) and ``orientation`` have one entry per array axis. The third column of the affine of
    a 2-D image is the unit normal that makes the axes right-handed. ``source_header`` is that of `Geometry`.
    `ValueError`: their lengths differ.
    """
    columns = directions(orientation)
    if not len(shape) == len(spacing_mm) == columns.shape[1]:
        raise ValueError(f"shape {shape}, spacing {spacing_mm} and orientation '{orientation}' differ in length")
    steps = columns * np.asarray(spacing_mm, dtype=np.float64)
    if len(shape) == 2:
        steps = np.column_stack([steps, np.cross(columns[:, 0], columns[:, 1])])
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = -steps[:, : len(shape)] @ ((np.asarray(shape) - 1) / 2)
    return Geometry(affine=affine + 0.0, shape=tuple(shape), source_header=source_header)


MaskReader = Callable[[Path], Sample]


class SliceAt(BaseModel):
    """One slice across the axis that runs most nearly head to foot, named in one of three ways.

    ``index``: its number along that axis as the array has it, from 0. ``superior_mm``: the slice whose centre is
    nearest to that height (S of RAS, mm). ``mask``: the slice with most points of a mask; its file lies in the folder
    of the scan, and ``{name}`` stands for the name of the scan without suffix, e.g. ``"{name}_mask.nii.gz"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    index: NonNegativeInt | None = None
    superior_mm: float | None = None
    mask: str | None = None

    @model_validator(mode="after")
    def _require_single_name(self) -> SliceAt:
        if [self.index, self.superior_mm, self.mask].count(None) != 2:
            raise ValueError("a slice is named by one of index, superior_mm and mask")
        return self


def with_message(message: str) -> WrapValidator:
    """Return a validator that raises one error with this message, in place of one per alternative."""

    def validated(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(message) from None

    return WrapValidator(validated)


_SLICES = "a slice is 'refuse', 'middle' or a table with one of index (0 or more), superior_mm (mm) and mask (a name)"
SliceChoice = Annotated[Literal["refuse", "middle"] | SliceAt, with_message(_SLICES)]
"""What a reader does with a volume where a slice is expected: refuse it, or take its middle or a named axial slice."""


def select_slice(
    data: np.ndarray, geometry: Geometry, choice: SliceChoice, path: Path, read_mask: MaskReader
) -> tuple[np.ndarray, Geometry]:
    """Return the slice that ``choice`` names, and its geometry; ``data`` is ``*space`` with three axes.

    ``read_mask`` reads a mask in the folder of ``path``. The third column of the slice's affine is the step to the
    next slice. Raises `UserError` that names ``path`` where volumes are refused, or no such slice or mask exists.
    """
    axis = upright_axis(geometry)
    if choice == "refuse":
        raise UserError(
            f"{path}: holds a volume of shape {data.shape}, expected a slice; choose a preset for volumes, give one"
            ' slice, or set volume = "middle", or a table with one of index, superior_mm and mask'
        )
    index = data.shape[axis] // 2 if choice == "middle" else _slice_index(geometry, axis, choice, path, read_mask)
    order = [other for other in range(3) if other != axis] + [axis]
    affine = geometry.affine[:, [*order, 3]]
    affine[:3, 3] = geometry.affine[:3, 3] + index * geometry.affine[:3, axis]
    plane = np.take(data, index, axis=axis)
    return plane, Geometry(affine=affine, shape=plane.shape, source_header={**geometry.source_header, "slice": index})


def upright_axis(geometry: Geometry) -> int:
    """Return the array axis that runs most nearly head to foot."""
    upright = np.abs(geometry.affine[2, :3]) / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    return int(np.argmax(upright))


def _slice_index(geometry: Geometry, axis: int, choice: SliceAt, path: Path, read_mask: MaskReader) -> int:
    num = geometry.shape[axis]
    if choice.index is not None:
        if choice.index >= num:
            raise UserError(f"{path}: has slices 0 to {num - 1}, volume.index is {choice.index}; choose one of them")
        return choice.index
    if choice.superior_mm is not None:
        return _height_index(geometry, axis, choice.superior_mm, path)
    return _mask_index(geometry, axis, str(choice.mask), path, read_mask)


def _height_index(geometry: Geometry, axis: int, height_mm: float, path: Path) -> int:
    """Return the slice whose centre is nearest to a height; `UserError` more than half a slice outside the volume."""
    centre = [(size - 1) / 2 for size in geometry.shape]
    centre[axis] = 0.0
    step = float(geometry.affine[2, axis])
    first = float((geometry.affine @ [*centre, 1.0])[2])
    index = int(np.rint((height_mm - first) / step))
    if not 0 <= index < geometry.shape[axis]:
        low, high = sorted((first, first + step * (geometry.shape[axis] - 1)))
        raise UserError(
            f"{path}: its slices lie at {low:g} to {high:g} mm, volume.superior_mm is {height_mm:g}; choose a height"
            " between them"
        )
    return index


def _mask_index(geometry: Geometry, axis: int, pattern: str, path: Path, read_mask: MaskReader) -> int:
    """Return the slice in which most points of a mask lie. The mask may have another grid: positions in mm count."""
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        name = name.removesuffix(suffix) if suffix else name
    mask = read_mask(path.parent / pattern.replace("{name}", name))
    assert mask.geometry is not None  # noqa: S101  # NIfTI always has one
    points = np.argwhere(np.asarray(mask.data)[0] > 0)
    world = points @ mask.geometry.affine[:3, :3].T + mask.geometry.affine[:3, 3]
    inverse = np.linalg.inv(geometry.affine)
    indices = np.rint(world @ inverse[axis, :3] + inverse[axis, 3])
    inside = indices[(indices >= 0) & (indices < geometry.shape[axis])].astype(np.int64)
    if inside.size == 0:
        raise UserError(
            f"{mask.meta['path']}: marks no point inside {path}; give its own mask, or choose a slice by index"
        )
    return int(np.bincount(inside).argmax())
