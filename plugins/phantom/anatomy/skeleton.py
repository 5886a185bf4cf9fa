"""Build ribs, clavicles, scapulae, humeral heads, sternum and spine."""

from __future__ import annotations

import numpy as np

from plugins.phantom.anatomy.anatomy import Anatomy
from plugins.phantom.anatomy.cavity import cage_middle, cage_radii, spine_line
from plugins.phantom.geometry.grid import Box, Grid
from plugins.phantom.geometry.layers import Layer
from plugins.phantom.geometry.shapes import profile, splat, voxel_fraction

_VERTEBRA_MM = 23.0
_FIRST_BELOW_APEX = 20.0


def bone_layers(grid: Grid, anatomy: Anatomy) -> list[Layer]:
    """Return all bones as a trabecular and a cortical layer, the spine apart."""
    layers = spine_layers(grid, anatomy)
    pieces = [
        _ribs(anatomy),
        _clavicles(anatomy),
        _scapulae_and_humeral_heads(anatomy),
        _sternum(anatomy),
        _vertebral_arches(anatomy),
    ]
    points = np.concatenate([piece[0] for piece in pieces])
    trabecular, cortical = (
        np.concatenate([np.broadcast_to(piece[which], len(piece[0])) for piece in pieces]) for which in (1, 2)
    )
    box, fractions = splat(grid, points, trabecular, cortical * anatomy.bone_scale)
    for tissue, fraction in zip(("trabecular", "cortical"), fractions, strict=True):
        layers.append(Layer(tissue, box, fraction, organ="bone"))
    return layers


def spine_layers(grid: Grid, anatomy: Anatomy) -> list[Layer]:
    """Return vertebral bodies and discs along the spine; end plates and rim are the cortical layer."""
    reach = 30 + anatomy.kyphosis
    back = -anatomy.cage_half_depth + 26
    box: Box = grid.box((-40, back - reach - 20, -210), (40, back + reach + 20, 210))
    x, y, z = grid.inside(box)
    middle, centre = spine_line(anatomy, z)
    wide = profile(z, (-200, 150), (23, 14))
    deep = profile(z, (-200, 150), (18, 11))
    level = np.sqrt(((x - middle) / wide) ** 2 + ((y - centre) / deep) ** 2)
    column = voxel_fraction((level - 1) * deep, grid.spacing_mm)
    phase = np.abs(np.mod(z / _VERTEBRA_MM + 0.25, 1.0) - 0.5) * _VERTEBRA_MM  # 0 in the middle of a body
    body = column * voxel_fraction(phase - 9.0, grid.spacing_mm)
    plate = 0.30 * anatomy.bone_scale * body * np.clip(1 - np.abs(phase - 8.0) / 4, 0, 1)
    rim = 0.22 * anatomy.bone_scale * body * np.clip(1 - np.abs(level - 0.93) / 0.22, 0, 1)
    return [
        Layer("disc", box, column, organ="bone"),
        Layer("trabecular", box, body, organ="bone"),
        Layer("cortical", box, np.maximum(plate, rim).astype(np.float32), organ="bone"),
    ]


def rib_line(anatomy: Anatomy, rib: int, sign: int, num: int = 90) -> np.ndarray:
    """Return the course of a rib, ``(num, 3)`` in mm, from the spine to the costochondral junction."""
    fraction = np.linspace(0, 1, num)
    ends = (150, 152, 152, 150, 147, 143, 138, 130, 122, 112, 88, 62)
    angle = np.deg2rad(np.interp(fraction, (0, 1), (14, ends[rib])))
    head = anatomy.apex_z - _FIRST_BELOW_APEX - _VERTEBRA_MM * rib * (0.9 + 0.012 * rib)
    fall = np.interp(rib, (0, 1, 3, 7, 11), (26, 48, 72, 92, 60)) * anatomy.rib_slope
    sweep = (angle - angle[0]) / np.deg2rad(136)
    z = head + 6 * np.sin(np.pi * np.minimum(1, 3 * sweep)) * (rib > 0) - fall * sweep**1.25
    wide, deep = cage_radii(anatomy, np.minimum(z, anatomy.apex_z - 12.0))
    power = 2 / 2.3
    x = sign * (wide + 4) * np.abs(np.sin(angle)) ** power
    y = cage_middle(anatomy, z) - np.sign(np.cos(angle)) * (deep + 4) * np.abs(np.cos(angle)) ** power
    return np.stack([x, y, z], axis=1)


def _ribs(anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points and their trabecular and cortical volumes, mm^3.

    A rib is 13 mm high and 7 mm thick, and its cortex is about 1 mm.
    """
    lines = [rib_line(anatomy, rib, sign) for rib in range(12) for sign in (1, -1)]
    sections = []
    for line in lines:
        step = float(np.linalg.norm(np.diff(line, axis=0), axis=1).mean())
        area = np.pi / 4 * 13.5 * 7.5
        around = np.linspace(0, 2 * np.pi, 8, endpoint=False)
        outward = line - np.array([0, line[:, 1].mean(), 0])
        outward[:, 2] = 0
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        offset = 2.2 * np.cos(around)[None, :, None] * outward[:, None, :]
        offset[..., 2] += 4.6 * np.sin(around)[None, :]
        points = (line[:, None, :] + offset).reshape(-1, 3)
        trabecular = np.full(len(points), step * area / 8)
        sections.append((points, trabecular, 0.45 * trabecular))
    return tuple(np.concatenate(part) for part in zip(*sections, strict=True))  # type: ignore[return-value]


def _clavicles(anatomy: Anatomy) -> tuple[np.ndarray, float, float]:
    fraction = np.linspace(0, 1, 60)
    points = []
    for sign in (1, -1):
        x = sign * (20 + fraction * (anatomy.shoulder_half_width - 48))
        y = 0.5 * anatomy.cage_half_depth * (1 - fraction) ** 0.8 + 12 * np.sin(2 * np.pi * fraction) - 22 * fraction
        z = anatomy.apex_z - 34 + 22 * fraction + 4 * np.sin(np.pi * fraction)
        points.append(np.stack([x, y, z], axis=1))
    line = np.concatenate(points)
    step = (anatomy.shoulder_half_width - 40) / 60
    spread = np.concatenate([line + np.array(offset) for offset in ((0, 3, 0), (0, -3, 0), (0, 0, 3), (0, 0, -3))])
    volume = step * np.pi * 6.0**2 / 4
    return spread, volume, 0.5 * volume


def _scapulae_and_humeral_heads(anatomy: Anatomy) -> tuple[np.ndarray, float, float]:
    """Return the scapulae, rotated off the lungs as for a radiograph, and the humeral heads."""
    a, b = (part.ravel() for part in np.meshgrid(np.linspace(0, 1, 26), np.linspace(0, 1, 26)))
    keep = a + b <= 1
    a, b = a[keep], b[keep]
    sides = []
    for sign in (1, -1):
        top = anatomy.apex_z - 22
        side = anatomy.cage_half_width
        x = sign * (side * 0.80 + (anatomy.shoulder_half_width - side * 0.80 - 30) * a + 12 * b)
        y = -0.62 * anatomy.cage_half_depth - 10 + 26 * a + 4 * b
        z = top - 105 * b - 8 * a
        sides.append(np.stack([x, y, z], axis=1))
        humeral_head = _ball(np.array([sign * (anatomy.shoulder_half_width - 26), -8.0, anatomy.apex_z - 22]), 19.0)
        sides.append(humeral_head)
    points = np.concatenate(sides)
    return points, 60.0, 20.0


def _ball(centre: np.ndarray, radius: float) -> np.ndarray:
    steps = np.arange(-radius, radius + 1, 4.0)
    grid = np.stack([part.ravel() for part in np.meshgrid(steps, steps, steps)], axis=1)
    return centre + grid[(grid**2).sum(1) <= radius**2]


def _sternum(anatomy: Anatomy) -> tuple[np.ndarray, float, float]:
    z = np.arange(anatomy.apex_z - 48, -58, -3.0)
    front = cage_middle(anatomy, z) + cage_radii(anatomy, z)[1] + 2
    x = np.arange(-15, 16, 3.0)
    points = np.stack([np.tile(x, len(z)), np.repeat(front, len(x)), np.repeat(z, len(x))], axis=1)
    return points, 9 * 9.0, 9 * 2.2


def _vertebral_arches(anatomy: Anatomy) -> tuple[np.ndarray, float, float]:
    """Return laminae, transverse and spinous processes of every vertebra."""
    heights = (np.arange(-9, 8) + 0.25) * _VERTEBRA_MM
    middle, centre = spine_line(anatomy, heights)
    pieces = []
    for x, y, z in zip(middle, centre, heights, strict=True):
        along = np.arange(0, 28, 3.0)
        spinous = np.stack([np.full(len(along), x), y - 24 - along, z - 0.5 * along], axis=1)
        across = np.arange(-27, 28, 3.0)
        wings = np.stack([x + across, y - 20 + 0 * across, z + 0 * across], axis=1)
        pieces += [spinous, wings, wings + np.array([0, 0, 4.0]), spinous - np.array([0, 0, 4.0])]
    return np.concatenate(pieces), 70.0, 26.0
