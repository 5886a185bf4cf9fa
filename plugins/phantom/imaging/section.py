"""Choose the level of the axial slice, and resample the work grid to the slice's pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.api import Geometry
from plugins.phantom.anatomy.findings import Finding
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.layers import Layer

FIELD_MM = 400.0  # side of the slice, the field of view of the modality ``ct``
_LEVELS_MM = (-90.0, 95.0)  # between the diaphragm's recesses and the apices


def finding_areas(grid: Grid, layers: tuple[Layer, ...], findings: tuple[Finding, ...]) -> dict[str, np.ndarray]:
    """Return each finding's area on every axial plane, mm^2 ``(Z,)``, covered or not; cardiomegaly has the heart's."""
    areas = {}
    for finding in findings:
        area = np.zeros(grid.shape[2])
        for layer in layers:
            if layer.finding == finding.name or (finding.name == "cardiomegaly" and layer.tissue == "myocardium"):
                area[layer.box[2]] += layer.fraction.sum((0, 1), dtype=np.float64)
        areas[finding.name] = area * grid.spacing_mm**2
    return areas


def choose_level(grid: Grid, areas: dict[str, np.ndarray], rng: np.random.Generator) -> int:
    """Return the plane that shows most of the findings: the sum of their areas, each relative to its maximum.

    A patient without findings gets a level drawn over the same range as those of others, so that the level alone says
    little.
    """
    z = grid.axis(2)
    allowed = (z >= _LEVELS_MM[0]) & (z <= _LEVELS_MM[1])
    score = sum((area / max(float(area.max()), 1e-6) for area in areas.values()), np.zeros(len(z)))
    score = score + 1e-3 * rng.random(len(z))
    if not areas:
        score = -np.abs(z - rng.normal(-25, 35))
    return int(np.argmax(np.where(allowed, score, -np.inf)))


@dataclass(frozen=True)
class Section:
    """Describe an axial slice of ``pixels`` x ``pixels``; rows run posterior, columns to the patient's left."""

    grid: Grid
    level: int
    pixels: int

    @property
    def z_mm(self) -> float:
        """Return the height of the plane, mm."""
        return float(self.grid.axis(2)[self.level])

    @property
    def geometry(self) -> Geometry:
        """Return the slice's geometry, centred on the isocentre in the plane and as thick as a voxel."""
        spacing, edge = FIELD_MM / self.pixels, FIELD_MM * (self.pixels - 1) / self.pixels / 2
        affine = np.array(
            [[0, -spacing, 0, edge], [-spacing, 0, 0, edge], [0, 0, self.grid.spacing_mm, self.z_mm], [0, 0, 0, 1]]
        )
        return Geometry(affine=affine, shape=(self.pixels, self.pixels), source_header={"level": self.level})

    def resampled(self, plane: np.ndarray, outside: float) -> np.ndarray:
        """Return a plane ``[x, y]`` of the grid as an image ``H W``: linear, averaged over each pixel."""
        fine = 3
        at = (np.arange(self.pixels * fine) - (self.pixels * fine - 1) / 2) * (-FIELD_MM / (self.pixels * fine))
        image = _interpolated(_interpolated(plane, self.grid.axis(0), at, outside).T, self.grid.axis(1), at, outside)
        blocks = image.reshape(self.pixels, fine, self.pixels, fine)
        return blocks.mean((1, 3), dtype=np.float64).astype(np.float32)


def _interpolated(plane: np.ndarray, centres: np.ndarray, at: np.ndarray, outside: float) -> np.ndarray:
    """Interpolate linearly along the first axis."""
    position = (at - float(centres[0])) / float(centres[1] - centres[0])
    low = np.clip(np.floor(position).astype(np.int64), 0, len(centres) - 2)
    weight = (position - low)[:, None].astype(np.float32)
    values = plane[low] * (1 - weight) + plane[low + 1] * weight
    return np.where(((position >= 0) & (position <= len(centres) - 1))[:, None], values, np.float32(outside))
