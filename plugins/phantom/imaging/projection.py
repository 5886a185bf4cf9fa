"""Integrate a volume along the rays of a cone beam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from plugins.phantom.geometry.grid import Grid

WATER_PER_MM = 0.0193  # linear attenuation of water at 70 keV, NIST XCOM 0.1929 / cm; the mean energy of 120 kV


def attenuation(volume_hu: np.ndarray) -> np.ndarray:
    """Convert Hounsfield units to linear attenuation, 1/mm: the definition of the unit, solved for mu."""
    return np.maximum(WATER_PER_MM * (1 + volume_hu / 1000), 0).astype(np.float32)


@dataclass(frozen=True)
class Beam:
    """Describe a point source and a flat detector that faces it along an axis of the grid.

    ``axis`` is 0 along x (lateral) or 1 along y (frontal). ``source_mm`` and ``detector_mm`` are their positions along
    it. ``centre_mm`` is where the central ray meets the other two axes, in the order of the grid.
    """

    axis: Literal[0, 1]
    source_mm: float
    detector_mm: float
    centre_mm: tuple[float, float] = (0.0, 0.0)

    @property
    def magnification(self) -> float:
        """Return the magnification at the isocentre."""
        return abs(self.detector_mm - self.source_mm) / abs(self.source_mm)


def project(mu: np.ndarray, grid: Grid, beam: Beam, u_mm: np.ndarray, v_mm: np.ndarray) -> np.ndarray:
    """Return the integrals from the source to the detector points ``(u, v)``, float64 ``[u, v]``.

    ``u`` runs along the first of the two axes across the beam, ``v`` along the second (z), both in the patient's mm.
    The ray sum is Joseph's method (IEEE TMI 1:192, 1982): every ray is sampled where it crosses each plane of voxel
    centres, linearly in both directions of the plane, and weighted by its path from plane to plane. The sampling
    points of a plane form a scaled grid, so the interpolation is separable and no ray is approximated by another.
    """
    first, second = beam.centre_mm
    across = 1 - beam.axis
    reach = beam.detector_mm - beam.source_mm
    total = np.zeros((len(u_mm), len(v_mm)))
    planes = np.moveaxis(mu, beam.axis, 0)
    for depth, plane in zip(grid.axis(beam.axis), planes, strict=True):
        share = (float(depth) - beam.source_mm) / reach
        if not 0 < share < 1:
            continue
        rows = _linear(plane, 0, first + share * (u_mm - first), grid.axis(across))
        total += _linear(rows, 1, second + share * (v_mm - second), grid.axis(2))
    slant = np.sqrt(1 + (((u_mm - first) ** 2)[:, None] + ((v_mm - second) ** 2)[None, :]) / reach**2)
    return total * slant * grid.spacing_mm


def _linear(plane: np.ndarray, axis: int, at_mm: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Interpolate linearly along an axis of a plane; zero beyond its voxel centres."""
    position = (at_mm - float(centres[0])) / float(centres[1] - centres[0])
    low = np.clip(np.floor(position).astype(np.int64), 0, len(centres) - 2)
    weight = (position - low).astype(plane.dtype)
    inside = ((position >= 0) & (position <= len(centres) - 1)).astype(plane.dtype)
    shape = (-1, 1) if axis == 0 else (1, -1)
    lower, upper = ((1 - weight) * inside).reshape(shape), (weight * inside).reshape(shape)
    return np.take(plane, low, axis) * lower + np.take(plane, low + 1, axis) * upper
