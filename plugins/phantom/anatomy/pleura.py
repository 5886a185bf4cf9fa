"""Build the findings of the pleural space: fluid and air between lung and chest wall."""

from __future__ import annotations

import numpy as np

from plugins.phantom.anatomy.anatomy import Anatomy
from plugins.phantom.anatomy.cavity import Cavity
from plugins.phantom.anatomy.findings import Finding
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.layers import Layer
from plugins.phantom.geometry.shapes import voxel_fraction


def half(grid: Grid, sign: int) -> np.ndarray:
    """Return the fraction of every voxel on a side of the midline, ``[x, 1, 1]``; ``sign`` +1 is the right."""
    return voxel_fraction(-sign * grid.x, grid.spacing_mm)


def effusion_layers(grid: Grid, anatomy: Anatomy, cavity: Cavity, finding: Finding) -> list[Layer]:
    """Return free fluid in an upright patient, which fills the costophrenic recess and forms a meniscus at the wall."""
    layers = []
    for sign in finding.sides:
        top = anatomy.dome_z[0 if sign > 0 else 1]
        level = top - 64 + 165 * finding.severity**1.4
        climb = (10 + 22 * finding.severity) * np.exp(-np.maximum(cavity.wall, 0) / 14)
        fluid = cavity.lungs * half(grid, sign) * voxel_fraction(grid.z - level - climb, grid.spacing_mm)
        layers.append(Layer("effusion", grid.whole, fluid, finding=finding.name))
    return layers


def pneumothorax_layers(grid: Grid, anatomy: Anatomy, cavity: Cavity, finding: Finding) -> list[Layer]:
    """Return air outside the lung, widest at the apex; the remaining lung is denser and ends in a thin pleural line."""
    layers = []
    base = anatomy.dome_z[0] - 40 + 70 * (1 - finding.severity)
    rise = np.clip((grid.z - base) / (anatomy.apex_z - base), 0, 1)
    gap = (5 + 80 * finding.severity**1.1) * rise
    for sign in finding.sides:
        side = cavity.lungs * half(grid, sign)
        air = side * voxel_fraction(cavity.wall - gap, grid.spacing_mm) * (gap > 0.5)
        line = np.clip(1 - np.abs(cavity.wall - gap) / grid.spacing_mm, 0, 1) * (1.6 / grid.spacing_mm)
        rest = side - air
        layers.append(Layer("edema", grid.whole, (rest * 0.25 * finding.severity).astype(np.float32)))
        layers.append(Layer("air", grid.whole, air, finding=finding.name))
        layers.append(Layer("vessel_wall", grid.whole, (side * line * (gap > 2)).astype(np.float32)))
    return layers
