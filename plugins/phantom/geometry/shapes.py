"""Turn shapes into voxel fractions. A voxel on a boundary gets its partial volume, so that there are no steps."""

from __future__ import annotations

import numpy as np

from plugins.phantom.geometry.grid import Box, Grid, Point


def voxel_fraction(distance_mm: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Return the fraction of a voxel inside a surface, from the signed distance to it (negative inside)."""
    fraction = np.multiply(distance_mm, np.float32(-1 / spacing_mm), dtype=np.float32)
    fraction += np.float32(0.5)
    return np.clip(fraction, 0, 1, out=fraction)


def profile(at: np.ndarray, knots: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    """Interpolate ``values`` given at ``knots`` linearly, float32."""
    return np.interp(at, knots, values).astype(np.float32)


def basis_along(direction: Point) -> np.ndarray:
    """Return an orthonormal basis (rows) whose first vector is ``direction``."""
    first = np.asarray(direction, np.float32) / np.linalg.norm(direction)
    second = np.cross(first, (0.0, 0.0, 1.0) if abs(first[2]) < 0.9 else (0.0, 1.0, 0.0))
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)]).astype(np.float32)


def ellipsoid(grid: Grid, centre: Point, radii: Point, direction: Point = (1.0, 0.0, 0.0)) -> tuple[Box, np.ndarray]:
    """Return box and voxel fractions of an ellipsoid whose first radius lies along ``direction``.

    The distance to its surface is first order: (sqrt(q) - 1) times the geometric mean radius.
    """
    basis = basis_along(direction)
    reach = np.sqrt(((basis * np.asarray(radii)[:, None]) ** 2).sum(0)) + grid.spacing_mm
    box = grid.box(tuple(centre - reach), tuple(centre + reach))
    x, y, z = (axis - middle for axis, middle in zip(grid.inside(box), centre, strict=True))
    level = sum(
        ((row[0] * x + row[1] * y + row[2] * z) / radius) ** 2 for row, radius in zip(basis, radii, strict=True)
    )
    return box, voxel_fraction((np.sqrt(level) - 1) * float(np.prod(radii)) ** (1 / 3), grid.spacing_mm)


def tube(grid: Grid, points: np.ndarray, radii: np.ndarray) -> tuple[Box, np.ndarray]:
    """Return box and voxel fractions of a bent tube: capsules between ``points`` ``(N, 3)``, with a radius at each."""
    reach = float(np.max(radii)) + grid.spacing_mm
    box = grid.box(tuple(points.min(0) - reach), tuple(points.max(0) + reach))
    start = [part.start for part in box]
    distance = np.full([len(range(*part.indices(num))) for part, num in zip(box, grid.shape, strict=True)], 1e3, "f4")
    for first, last, radius, end_radius in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        wide = max(radius, end_radius) + grid.spacing_mm
        part = grid.box(tuple(np.minimum(first, last) - wide), tuple(np.maximum(first, last) + wide))
        local = tuple(slice(max(0, span.start - at), span.stop - at) for span, at in zip(part, start, strict=True))
        inside = grid.inside(part)
        along = last - first
        offsets = [axis - middle for axis, middle in zip(inside, first, strict=True)]
        fraction = sum(offset * step for offset, step in zip(offsets, along, strict=True)) / max(
            float(along @ along), 1e-6
        )
        fraction = np.clip(fraction, 0, 1)
        square = sum((offset - fraction * step) ** 2 for offset, step in zip(offsets, along, strict=True))
        to_surface = np.sqrt(square) - (radius + fraction * (end_radius - radius))
        distance[local] = np.minimum(distance[local], to_surface)
    return box, voxel_fraction(distance, grid.spacing_mm)


def splat(grid: Grid, points: np.ndarray, *volumes_mm3: np.ndarray) -> tuple[Box, list[np.ndarray]]:
    """Return box and voxel fractions of small bodies (rib pieces, vessels), conserving their volume.

    Each point gives its volume to the eight voxels around it, trilinearly. Fractions above 1 are clipped. With several
    volumes per point there is an array of fractions for each.
    """
    position = points / grid.spacing_mm + (np.asarray(grid.shape) - 1) / 2
    low = np.floor(position).astype(np.int64)
    keep = np.all((low >= 0) & (low < np.asarray(grid.shape) - 1), axis=1)
    low, part = low[keep], (position - low)[keep]
    first = low.min(0)
    shape = tuple(int(size) for size in low.max(0) - first + 2)
    indices, shares = [], []
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (part[:, axis] if up else 1 - part[:, axis] for axis, up in enumerate(corner))
        shares.append(x * y * z / grid.spacing_mm**3)
        indices.append(np.ravel_multi_index(tuple((low - first + corner).T), shape))
    flat, weights = np.concatenate(indices), np.stack(shares)
    fractions = []
    for volumes in volumes_mm3:
        total = np.bincount(flat, (weights * volumes[keep]).ravel(), minlength=int(np.prod(shape)))
        fractions.append(np.minimum(total, 1).reshape(shape).astype(np.float32))
    box = tuple(slice(int(at), int(at) + size) for at, size in zip(first, shape, strict=True))
    return box, fractions  # type: ignore[return-value]
