"""Build skin, fat and muscle around the rib cage."""

from __future__ import annotations

import numpy as np

from plugins.phantom.anatomy.anatomy import Anatomy
from plugins.phantom.anatomy.cavity import cage_middle
from plugins.phantom.geometry.fields import smooth_field
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.layers import Layer
from plugins.phantom.geometry.shapes import ellipsoid, profile, voxel_fraction

_POWER = 2.6


def outline_layers(grid: Grid, anatomy: Anatomy, rng: np.random.Generator) -> list[Layer]:
    """Return subcutaneous fat, breasts, then the muscle of chest wall, shoulders and neck."""
    bumps = smooth_field(rng, grid.shape[:2], (7, 6))[:, :, None] * np.float32(anatomy.organic)
    distance = _muscle_distance(grid, anatomy) - bumps
    thick = anatomy.fat * profile(grid.z, (-200, -60, 60, 120, 160), (1.25, 1.0, 0.8, 0.6, 0.4))
    layers = [Layer("fat", grid.whole, voxel_fraction(distance - thick, grid.spacing_mm), organ="body")]
    layers += _breasts(grid, anatomy)
    layers.append(Layer("muscle", grid.whole, voxel_fraction(distance, grid.spacing_mm), organ="body"))
    return layers


def _muscle_distance(grid: Grid, anatomy: Anatomy) -> np.ndarray:
    """Return the signed distance to the outside of the muscle, mm, first order."""
    z, wall = grid.z, anatomy.muscle + 7  # ribs and intercostals are 7 mm
    chest, shoulder = anatomy.cage_half_width + wall, anatomy.shoulder_half_width
    wide = profile(
        z, (-210, -100, 0, 50, 85, 112, 132, 150, 175, 210),
        (chest - 2, chest, chest + 1, chest + 9, shoulder - 10, shoulder, shoulder - 14, 112, 66, 58),
    )  # fmt: skip
    depth = anatomy.cage_half_depth + wall
    deep = profile(z, (-210, -60, 40, 90, 120, 150, 210), (depth, depth, depth - 2, depth - 16, 68, 62, 58))
    # The back of the neck and shoulders follows the lean of the cage.
    middle = cage_middle(anatomy, z) + profile(z, (100, 160), (0, -4))
    level = (np.abs(grid.x) / wide) ** _POWER + (np.abs(grid.y - middle) / deep) ** _POWER
    return np.minimum((level - 1) * (np.minimum(wide, deep) / np.float32(_POWER)), np.float32(90))


def _breasts(grid: Grid, anatomy: Anatomy) -> list[Layer]:
    if not anatomy.breast:
        return []
    size = anatomy.breast
    layers = []
    for sign in (1, -1):
        front = anatomy.cage_half_depth + anatomy.muscle + 4
        centre = (sign * 0.58 * anatomy.cage_half_width, front, -34.0)
        box, skin = ellipsoid(grid, centre, (size * 0.95 + 22, size * 0.6, size * 0.8 + 20))
        layers.append(Layer("fat", box, skin, organ="body"))
        box, gland = ellipsoid(grid, centre, (size * 0.6 + 10, size * 0.42, size * 0.5 + 10))
        layers.append(Layer("gland", box, 0.6 * gland, organ="body"))
    return layers
