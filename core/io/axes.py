"""Directions of array axes in the patient, and the geometry of files that state no position."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from core.types import Geometry, Space

_WORLD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def _checked(orientation: str) -> str:
    worlds = [_WORLD[letter][0] for letter in orientation if letter in _WORLD]
    if len(worlds) != len(orientation) or len(set(worlds)) != len(worlds) or len(worlds) not in (2, 3):
        raise ValueError("an orientation is 2 or 3 letters, one each of R/L, A/P and S/I, such as 'IL' or 'SPL'")
    return orientation


Orientation = Annotated[str, AfterValidator(_checked)]
"""Where each array axis points: ``"IL"`` = rows run inferior, columns run to the patient's left (a frontal
radiograph as displayed), ``"SPL"`` = slices run superior, then axial rows run posterior and columns left."""


def directions(orientation: str) -> np.ndarray:
    """Unit world vectors (R, A, S), one column per letter: ``3 axes``."""
    columns = np.zeros((3, len(_checked(orientation))))
    for axis, letter in enumerate(orientation):
        world, sign = _WORLD[letter]
        columns[world, axis] = sign
    return columns


def centred(shape: Space, spacing_mm: tuple[float, ...], orientation: str, **stored: object) -> Geometry:
    """The geometry of data whose position is unknown: the centre of the field of view is the world's origin.

    ``shape``, ``spacing_mm`` (mm) and ``orientation`` have one entry per array axis. The third column of a 2-D image
    is the unit normal that makes the axes right-handed. ``stored`` becomes `Geometry.stored`.
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
    return Geometry(affine=affine + 0.0, shape=tuple(shape), stored=stored)
