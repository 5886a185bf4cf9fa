"""Build lung tissue and its vascular tree."""

from __future__ import annotations

import numpy as np

from plugins.phantom.anatomy.anatomy import Anatomy
from plugins.phantom.anatomy.cavity import Cavity
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.layers import Layer
from plugins.phantom.geometry.shapes import splat

_STEP_MM = 3.0
# Per generation: branches of each parent, length and radius in mm, spread of directions.
_GENERATIONS = ((9, 34.0, 4.0, 0.0), (2, 30.0, 2.7, 0.55), (2, 27.0, 1.8, 0.6), (3, 24.0, 1.15, 0.7))


def hilum(sign: int) -> np.ndarray:
    """Return the centre of a hilum, mm, where vessels and bronchi enter the lung; the left one lies higher."""
    return np.array([50.0, -12, 2]) if sign > 0 else np.array([-48.0, -14, 12])


def lung_layers(grid: Grid, anatomy: Anatomy, cavity: Cavity, rng: np.random.Generator) -> list[Layer]:
    """Return lung tissue, then its arteries and veins."""
    layers = [Layer("lung", grid.whole, cavity.lungs, organ="lung")]
    trees = [_tree(sign, anatomy, rng) for sign in (1, -1) for _ in range(2)]
    points = np.concatenate([tree[0] for tree in trees])
    volumes = np.concatenate([tree[1] for tree in trees])
    box, (fraction,) = splat(grid, points, volumes)
    layers.append(Layer("blood", box, fraction * cavity.lungs[box], organ="lung"))
    return layers


def _tree(sign: int, anatomy: Anatomy, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return points along a branching tree and the volume of each, mm^3. Lower branches are wider."""
    starts = np.repeat(hilum(sign)[None], 1, axis=0)
    directions = np.array([[float(sign), 0.0, 0.0]])
    points, volumes = [], []
    for children, length, radius, spread in _GENERATIONS:
        starts, directions = np.repeat(starts, children, 0), np.repeat(directions, children, 0)
        if spread == 0:
            angle = np.linspace(-2.2, 1.9, children) + rng.normal(0, 0.1, children)
            front = rng.uniform(-0.7, 0.7, children)
            directions = np.stack([sign * np.cos(angle * 0.8), front, np.sin(angle)], axis=1)
        directions = directions + rng.normal(0, spread, directions.shape)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = length * rng.uniform(0.75, 1.25, len(starts))
        along = np.arange(0, 1, _STEP_MM / length)
        curve = starts[:, None] + directions[:, None] * (lengths[:, None] * along)[..., None]
        full = np.interp(starts[:, 2], (-60, 80), (1.2, 0.75)) * anatomy.vessel_scale
        area = np.pi * (radius * np.sqrt(full)) ** 2
        points.append(curve.reshape(-1, 3))
        volumes.append(np.repeat(area * lengths / len(along), len(along)))
        starts = starts + directions * lengths[:, None]
    return np.concatenate(points), np.concatenate(volumes)
