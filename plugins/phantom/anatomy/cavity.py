"""Build the pleural cavity: the rib cage around the lungs, the diaphragm below, the mediastinum between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plugins.phantom.anatomy.anatomy import Anatomy
from plugins.phantom.anatomy.findings import Finding, find
from plugins.phantom.geometry.fields import smooth_field
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.shapes import profile, voxel_fraction

_POWER = 2.3  # of the superellipse that a cross-section of the cage is
_WIDEST_Z = -70.0


def cage_radii(anatomy: Anatomy, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return half-width and half-depth of the rib cage at heights ``z``, mm.

    The apex is round; below its widest level the cage is nearly straight.
    """
    rise = np.clip((z - _WIDEST_Z) / (anatomy.apex_z - _WIDEST_Z), 0, 1)
    fall = np.clip(_WIDEST_Z - z, 0, None) / 100
    wide = anatomy.cage_half_width * (np.clip(1 - rise**2.2, 0, 1) ** 0.62 - 0.06 * fall**2)
    deep = anatomy.cage_half_depth * (np.clip(1 - rise**2.4, 0, 1) ** 0.62 - 0.08 * fall**2)
    return np.maximum(wide, 4.0).astype(np.float32), np.maximum(deep, 4.0).astype(np.float32)


def spine_line(anatomy: Anatomy, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the centres of the vertebral bodies at heights ``z``, mm."""
    bend = np.clip(1 - ((z + 10) / 150) ** 2, -1.5, 1)
    x = anatomy.scoliosis * np.sin((z + 60) / 70)
    return x, -anatomy.cage_half_depth + 26 - anatomy.kyphosis * bend


def cage_middle(anatomy: Anatomy, z: np.ndarray) -> np.ndarray:
    """Return y of the middle of the cage at heights ``z``, mm: it leans back a little towards the apex."""
    rise = np.clip((z + 40) / 170, 0, 1)
    return -0.30 * anatomy.cage_half_depth * rise


@dataclass(frozen=True, eq=False)
class Cavity:
    """Hold distances and fractions of every voxel, ``[x, y, z]``.

    ``wall`` is the depth below the chest wall and ``above`` the height over the diaphragm, mm, both signed. ``inside``
    is the fraction in the cavity above the diaphragm, including the mediastinum, and ``lungs`` that without it.
    ``floor`` is the height of the diaphragm, ``[x, y, 1]``.
    """

    cage: np.ndarray
    wall: np.ndarray
    above: np.ndarray
    inside: np.ndarray
    lungs: np.ndarray
    floor: np.ndarray


def build_cavity(grid: Grid, anatomy: Anatomy, findings: tuple[Finding, ...], rng: np.random.Generator) -> Cavity:
    """Return a patient's cavity; atelectasis raises the diaphragm on its side."""
    wide, deep = cage_radii(anatomy, grid.z)
    with np.errstate(under="ignore"):
        across = (np.abs(grid.x) / wide) ** _POWER
        along = (np.abs(grid.y - cage_middle(anatomy, grid.z)) / deep) ** _POWER
    level = np.maximum(across + along, 1e-4)
    bumps = smooth_field(rng, grid.shape, (6, 5, 6)) * np.float32(1.2 * anatomy.organic)
    # First order distance to the surface level = 1, along the shorter radius.
    wall = (1 - level) * (np.minimum(wide, deep) / np.float32(_POWER)) + bumps
    # Far outside the first-order distance grows without bound, and nothing there is used.
    wall = np.maximum(wall, np.float32(-80))
    floor = diaphragm(grid, anatomy, findings)
    above = (grid.z - floor) + np.float32(1.5) * bumps
    cage = voxel_fraction(-wall, grid.spacing_mm)
    inside = cage * voxel_fraction(-above, grid.spacing_mm)
    lungs = inside * (1 - mediastinum(grid, anatomy))
    return Cavity(cage, wall, above, inside, lungs, floor)


def diaphragm(grid: Grid, anatomy: Anatomy, findings: tuple[Finding, ...]) -> np.ndarray:
    """Return the height of the diaphragm, mm, ``[x, y, 1]``.

    Its two domes fall to the costophrenic recesses, which are deepest posteriorly.
    """
    loss = find(findings, "atelectasis")
    heights = []
    for sign, top in zip((1, -1), anatomy.dome_z, strict=True):
        raised = 26 * loss.severity**1.5 if loss is not None and sign in loss.sides else 0.0
        lateral = (sign * grid.x / anatomy.cage_half_width) - 0.46
        front = (grid.y - 8) / anatomy.cage_half_depth
        drop = np.where(lateral > 0, 200.0, 45.0) * lateral**2 + np.where(front > 0, 30.0, 62.0) * front**2
        heights.append(top + raised - drop)
    right, left = heights
    blend = np.clip(0.5 + grid.x / 30, 0, 1)
    return (blend * right + (1 - blend) * left).astype(np.float32)


def mediastinum(grid: Grid, anatomy: Anatomy) -> np.ndarray:
    """Return the fraction of every voxel between the pleurae.

    The mediastinum is wide around the spine and at the thoracic inlet, and thin behind the sternum.
    """
    middle, back = spine_line(anatomy, grid.z)
    front = cage_middle(anatomy, grid.z) + 0.8 * cage_radii(anatomy, grid.z)[1]
    fraction = np.clip((grid.y - back) / np.maximum(front - back, 1), 0, 1)
    half = anatomy.mediastinum * profile(grid.z, (-120, -60, 20, 60, 100, 150), (24, 17, 16, 18, 20, 26))
    half = half * profile(fraction, (0, 0.25, 0.6, 0.85, 1), (1.25, 1.1, 1.0, 0.45, 0.3))
    return voxel_fraction(np.abs(grid.x - middle * (1 - fraction)) - half, grid.spacing_mm)
