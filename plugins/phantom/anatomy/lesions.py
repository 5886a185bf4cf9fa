"""Build the findings inside the lung: consolidation, lesions, edema and atelectasis."""

from __future__ import annotations

import numpy as np

from plugins.phantom.anatomy.anatomy import Anatomy
from plugins.phantom.anatomy.cavity import Cavity
from plugins.phantom.anatomy.findings import Finding, lesion_diameter_mm
from plugins.phantom.anatomy.lungs import hilum
from plugins.phantom.anatomy.pleura import half
from plugins.phantom.geometry.fields import smooth_field
from plugins.phantom.geometry.grid import Grid, Point
from plugins.phantom.geometry.layers import Layer
from plugins.phantom.geometry.shapes import ellipsoid, voxel_fraction

_ZONE_HEIGHT = {"upper": 62.0, "middle": 5.0, "lower": -42.0}


def _draw_centre(anatomy: Anatomy, sign: int, zone: str, rng: np.random.Generator, margin: float) -> Point:
    """Draw a point in the lung beyond the heart: the zone decides the height, the depth is free."""
    z = _ZONE_HEIGHT[zone] + rng.uniform(-16, 16)
    narrow = float(np.interp(z, (-60, 40, 90), (1.0, 0.85, 0.6)))
    inner = 42.0 if sign > 0 else 52.0
    outer = max(inner + 5, anatomy.cage_half_width * narrow - margin)
    return sign * float(rng.uniform(inner, outer)), float(rng.uniform(-0.55, 0.45)) * anatomy.cage_half_depth, z


def consolidation_layers(
    grid: Grid, anatomy: Anatomy, cavity: Cavity, finding: Finding, rng: np.random.Generator
) -> list[Layer]:
    """Return a patch of filled air spaces with ragged edges per side; denser and larger with severity."""
    layers = []
    for sign, stream in zip((1, -1), rng.spawn(2), strict=True):
        if sign not in finding.sides:
            continue
        centre = _draw_centre(anatomy, sign, finding.zone or "lower", stream, 22)
        stretch = stream.uniform(0.8, 1.3, 3)
        radius = 18 + 37 * finding.severity
        radii: Point = (float(radius * stretch[0]), float(radius * stretch[1]), float(radius * stretch[2]))
        box, patch = ellipsoid(grid, centre, radii)
        ragged = np.clip(patch * (1 + 0.45 * smooth_field(stream, patch.shape, (7, 7, 7))), 0, 1)
        density = 0.40 + 0.55 * finding.severity
        layers.append(_in_lung(grid, cavity, sign, "consolidation", box, density * ragged, finding.name))
    return layers


def lesion_layers(
    grid: Grid, anatomy: Anatomy, cavity: Cavity, finding: Finding, rng: np.random.Generator
) -> list[Layer]:
    """Return a solid, slightly lobulated nodule or mass, 12 to 82 mm in diameter."""
    sign = finding.sides[0]
    centre = np.array(_draw_centre(anatomy, sign, finding.zone or "upper", rng, 16))
    radius = lesion_diameter_mm(finding) / 2
    layers = []
    for part in range(3):
        offset = rng.normal(0, 0.3 * radius, 3) if part else np.zeros(3)
        size = radius * (1 if not part else rng.uniform(0.5, 0.8))
        box, ball = ellipsoid(grid, tuple(centre + offset), (size, size, size))
        layers.append(_in_lung(grid, cavity, sign, "lesion", box, ball, finding.name))
    return layers


def edema_layers(
    grid: Grid, anatomy: Anatomy, cavity: Cavity, finding: Finding, rng: np.random.Generator
) -> list[Layer]:
    """Return patchy water in both lungs: around the hila, and more in the lower lung."""
    patchy = 1 + 0.3 * smooth_field(rng, grid.shape, (9, 7, 9))
    layers = []
    for sign in (1, -1):
        centre = hilum(sign) + np.array([sign * 16.0, 0, -12])
        distance = (
            ((grid.x - centre[0]) / 52) ** 2 + ((grid.y - centre[1]) / 70) ** 2 + ((grid.z - centre[2]) / 68) ** 2
        )
        wet = np.clip((0.25 + 0.75 * np.exp(-distance)) * patchy, 0, None) * (0.03 + 0.42 * finding.severity**1.2)
        fraction = (np.clip(wet, 0, 0.8) * cavity.lungs * half(grid, sign)).astype(np.float32)
        layers.append(Layer("edema", grid.whole, fraction, finding=finding.name))
    return layers


def atelectasis_layers(
    grid: Grid, anatomy: Anatomy, cavity: Cavity, finding: Finding, rng: np.random.Generator
) -> list[Layer]:
    """Return plates of collapsed lung over a raised diaphragm; a whole lower lobe when severe."""
    layers = []
    for sign in (1, -1):
        tilt, height = rng.uniform(-0.15, 0.35), rng.uniform(10, 26)
        if sign not in finding.sides:
            continue
        thick = 2.5 + 9 * finding.severity
        plane = cavity.above - height - tilt * (sign * grid.x - 60)
        band = voxel_fraction(np.abs(plane) - thick / 2, grid.spacing_mm) * (0.45 + 0.45 * finding.severity)
        # The band is as long as the lung base is wide.
        band = (
            band
            * voxel_fraction(25 - sign * grid.x, grid.spacing_mm)
            * voxel_fraction(6 - cavity.wall, 2 * grid.spacing_mm)
        )
        collapsed = (
            finding.severity**1.6
            * 0.75
            * voxel_fraction(cavity.above - 12 - 45 * finding.severity, 6 * grid.spacing_mm)
        )
        fraction = np.maximum(band, collapsed) * cavity.lungs * half(grid, sign)
        layers.append(Layer("atelectasis", grid.whole, fraction.astype(np.float32), finding=finding.name))
    return layers


def _in_lung(
    grid: Grid, cavity: Cavity, sign: int, tissue: str, box: tuple[slice, slice, slice], fraction: np.ndarray, name: str
) -> Layer:
    inside = cavity.lungs[box] * half(grid, sign)[box[0]]
    return Layer(tissue, box, (fraction * inside).astype(np.float32), finding=name)
