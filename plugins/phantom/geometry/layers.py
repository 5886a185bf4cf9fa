"""Describe a body as layers of tissue, painted in order; each layer covers those before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from plugins.phantom.geometry.grid import Box, Grid


@dataclass(frozen=True, eq=False)
class Layer:
    """Hold the ``fraction`` of each voxel of ``box`` that ``tissue`` takes; ``organ``, ``finding`` name its mask."""

    tissue: str
    box: Box
    fraction: np.ndarray
    organ: str | None = None
    finding: str | None = None


def mix_tissues(grid: Grid, layers: Iterable[Layer], values: Mapping[str, float], background: float) -> np.ndarray:
    """Return the mixture of ``values`` by tissue in every voxel, float32 ``[x, y, z]``."""
    mixed = np.full(grid.shape, background, np.float32)
    for layer in layers:
        part = mixed[layer.box]
        part += layer.fraction * (np.float32(values[layer.tissue]) - part)
    return mixed


def layers_at_level(grid: Grid, layers: Iterable[Layer], level: int) -> list[Layer]:
    """Return the layers on an axial plane of the grid, as layers of a grid that is a voxel thick."""
    planes = []
    for layer in layers:
        start, stop, _ = layer.box[2].indices(grid.shape[2])
        if start <= level < stop:
            fraction = layer.fraction[:, :, level - start : level - start + 1]
            box = (layer.box[0], layer.box[1], slice(0, 1))
            planes.append(Layer(layer.tissue, box, fraction, layer.organ, layer.finding))
    return planes


def visible_fraction(
    grid: Grid, layers: Iterable[Layer], *, organ: str | None = None, finding: str | None = None
) -> np.ndarray:
    """Return the fraction of every voxel where an organ or a finding shows, float32 ``[x, y, z]``.

    What later layers cover does not count.
    """
    fraction = np.zeros(grid.shape, np.float32)
    for layer in layers:
        matches = layer.organ == organ if organ else layer.finding == finding
        part = fraction[layer.box]
        part += layer.fraction * (np.float32(matches) - part)
    return fraction
