"""The axial slice: which level, and how the work grid is resampled to the slice's pixels."""

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
    """Area of every finding on each axial plane, mm^2 ``(Z,)``, covered parts too; for cardiomegaly the heart."""
    areas = {}
    for finding in findings:
        area = np.zeros(grid.shape[2])
        for layer in layers:
            if layer.finding == finding.name or (finding.name == "cardiomegaly" and layer.tissue == "myocardium"):
                area[layer.box[2]] += layer.fraction.sum((0, 1), dtype=np.float64)
        areas[finding.name] = area * grid.spacing_mm**2
    return areas


def choose_level(grid: Grid, areas: dict[str, np.ndarray], rng: np.random.Generator) -> int:
    """The plane that shows most of the findings: the sum of their areas, each relative to its own largest.

    A patient without findings gets a level as others have them, drawn over the same range, so that the level alone
    says little.
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
    """``pixels`` x ``pixels`` of an axial plane; rows run posterior, columns to the patient's left."""

    grid: Grid
    level: int
    pixels: int

    @property
    def z_mm(self) -> float:
        """Height of the plane."""
        return float(self.grid.axis(2)[self.level])

    @property
    def geometry(self) -> Geometry:
        """Centred on the isocentre in the plane; as thick as a voxel."""
        spacing, edge = FIELD_MM / self.pixels, FIELD_MM * (self.pixels - 1) / self.pixels / 2
        affine = np.array(
            [[0, -spacing, 0, edge], [-spacing, 0, 0, edge], [0, 0, self.grid.spacing_mm, self.z_mm], [0, 0, 0, 1]]
        )
        return Geometry(affine=affine, shape=(self.pixels, self.pixels), stored={"level": self.level})

    def sampled(self, plane: np.ndarray, outside: float) -> np.ndarray:
        """A plane ``[x, y]`` of the grid as a picture ``H W``: linear, averaged over each pixel."""
        fine = 3
        at = (np.arange(self.pixels * fine) - (self.pixels * fine - 1) / 2) * (-FIELD_MM / (self.pixels * fine))
        picture = _resampled(_resampled(plane, self.grid.axis(0), at, outside).T, self.grid.axis(1), at, outside)
        blocks = picture.reshape(self.pixels, fine, self.pixels, fine)
        return blocks.mean((1, 3), dtype=np.float64).astype(np.float32)


def _resampled(plane: np.ndarray, centres: np.ndarray, at: np.ndarray, outside: float) -> np.ndarray:
    """Linear interpolation along the first axis."""
    place = (at - float(centres[0])) / float(centres[1] - centres[0])
    low = np.clip(np.floor(place).astype(np.int64), 0, len(centres) - 2)
    weight = (place - low)[:, None].astype(np.float32)
    found = plane[low] * (1 - weight) + plane[low + 1] * weight
    return np.where(((place >= 0) & (place <= len(centres) - 1))[:, None], found, np.float32(outside))
