"""Samples of any modality, drawn from its `DataSpec` alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from core.types import LABEL_UNITS, DataSpec, Geometry, Sample

_WORDS = [
    "no",
    "acute",
    "small",
    "large",
    "left",
    "right",
    "upper",
    "lower",
    "effusion",
    "nodule",
    "normal",
    "heart",
    "lungs",
    "clear",
    "mild",
    "severe",
]


def draw_sample(modality: str, spec: DataSpec, seed: int) -> Sample:
    """Draw a sample in original units: smooth noise over the value range, a label map, or a short sentence."""
    rng = np.random.default_rng(seed)
    if spec.kind == "tokens":
        words = rng.choice(_WORDS, size=3 + seed % 5)
        return Sample(modality=modality, data=" ".join(words).capitalize() + ".")
    low, high = spec.value_range
    if spec.units == LABEL_UNITS:
        levels = _smooth(rng, (1, *spec.space)) * (high - low + 1)
        labels = low + np.minimum(np.floor(levels), high - low)
        return Sample(modality=modality, data=labels.astype(np.float32), geometry=geometry_of(spec))
    unit = rng.random(spec.channels) if spec.kind == "vector" else _smooth(rng, (spec.channels, *spec.space))
    data = (low + (high - low) * unit).astype(np.float32)
    return Sample(modality=modality, data=data, geometry=geometry_of(spec))


def geometry_of(spec: DataSpec) -> Geometry | None:
    """Return the default geometry of the spec's grid; ``None`` for data without space."""
    if spec.kind != "grid":
        return None
    if spec.default_geometry is not None:
        return spec.default_geometry
    return Geometry(affine=np.diag([1.0, 1.0, 1.0, 1.0]), shape=spec.space)


def draw_off_grid(modality: str, spec: DataSpec) -> dict[str, Sample]:
    """Draw samples as scanners deliver them, not on the canonical grid; none for data without space.

    ``flipped``: the canonical grid with its first axis reversed, without loss. ``spaced``: the same number of points,
    further apart along the first axis and nearer along the others. ``larger``: more points, each along its own axis.
    """
    grid = geometry_of(spec)
    if grid is None:
        return {}
    flipped, spaced = grid.affine.copy(), grid.affine.copy()
    flipped[:3, 3] += flipped[:3, 0] * (grid.shape[0] - 1)
    flipped[:3, 0] *= -1
    spaced[:3, : len(grid.shape)] *= [1.25, *([0.8] * (len(grid.shape) - 1))]
    larger = tuple(size + max(1, size // (4 + axis)) for axis, size in enumerate(grid.shape))
    grids = {
        "flipped": replace(grid, affine=flipped),
        "spaced": replace(grid, affine=spaced),
        "larger": replace(grid, shape=larger),
    }
    return {
        name: draw_sample(modality, replace(spec, space=geometry.shape, default_geometry=geometry), seed)
        for seed, (name, geometry) in enumerate(grids.items())
    }


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw noise in [0, 1] that a resampling can follow: a few low frequencies per axis."""
    field = np.zeros(shape)
    for axis in range(1, len(shape)):
        position = np.linspace(0, 2 * np.pi, shape[axis])
        wave = sum(rng.normal() * np.sin(k * position + rng.uniform(0, 6.28)) for k in (1, 2))
        field = field + np.expand_dims(wave, [i for i in range(len(shape)) if i != axis])
    field = field + rng.normal(size=(shape[0],) + (1,) * (len(shape) - 1))
    return (field - field.min()) / max(float(np.ptp(field)), 1e-9)
