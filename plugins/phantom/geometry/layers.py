"""A body as layers of tissue, painted in order; each later one covers what lies below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from plugins.phantom.geometry.grid import Box, Grid


@dataclass(frozen=True, eq=False)
class Layer:
    """``fraction`` of each voxel of ``box`` that ``tissue`` takes; ``organ`` and ``finding`` say whose mask it is."""

    tissue: str
    box: Box
    fraction: np.ndarray
    organ: str | None = None
    finding: str | None = None


def composed(grid: Grid, layers: Iterable[Layer], values: Mapping[str, float], background: float) -> np.ndarray:
    """The mixture of ``values`` by tissue in every voxel, float32 ``[x, y, z]``."""
    mixed = np.full(grid.shape, background, np.float32)
    for layer in layers:
        part = mixed[layer.box]
        part += layer.fraction * (np.float32(values[layer.tissue]) - part)
    return mixed


def cut(grid: Grid, layers: Iterable[Layer], level: int) -> list[Layer]:
    """The layers on one axial plane of the grid, as layers of a grid one voxel thick."""
    planes = []
    for layer in layers:
        start, stop, _ = layer.box[2].indices(grid.shape[2])
        if start <= level < stop:
            fraction = layer.fraction[:, :, level - start : level - start + 1]
            box = (layer.box[0], layer.box[1], slice(0, 1))
            planes.append(Layer(layer.tissue, box, fraction, layer.organ, layer.finding))
    return planes


def share_of(
    grid: Grid, layers: Iterable[Layer], *, organ: str | None = None, finding: str | None = None
) -> np.ndarray:
    """How much of every voxel an organ or a finding shows, float32 ``[x, y, z]``: what later layers cover is gone."""
    share = np.zeros(grid.shape, np.float32)
    for layer in layers:
        mine = layer.organ == organ if organ else layer.finding == finding
        part = share[layer.box]
        part += layer.fraction * (np.float32(mine) - part)
    return share
