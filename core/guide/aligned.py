"""Aligned context: a partner's features on the grid of a receiver, in patient coordinates (method F7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.contract.modality import Site
from core.guide.patient_grid import from_patient_axes, patient_grid, resampled
from core.types import Context, Geometry, PatientGrid, Space

AlignedFeatures = Mapping[PatientGrid, Tensor]
_LARGEST_GROUP_COUNT = 8


class AlignedBranch(nn.Module):
    """The features h_B of a context encoder at the resolution of its latent (method F7).

    A residual block of two convolutions, whose normalised features are scaled and shifted by ``embedding`` (Dhariwal
    and Nichol 2021, section 3), and a gate on its output: level, clean flag and sender decide how much is sent.
    ``space`` of the latent, ``width`` features out, ``embedding_width`` of the embedding.
    """

    def __init__(self, channels: int, space: Space, width: int, embedding_width: int) -> None:
        super().__init__()
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(space)]
        self.enter = convolution(channels, width, 3, padding=1)
        self.norm = nn.GroupNorm(math.gcd(width, _LARGEST_GROUP_COUNT), width)
        self.body = convolution(width, width, 3, padding=1)
        self.modulation = nn.Linear(embedding_width, 3 * width)

    def forward(self, noisy: Tensor, embedding: Tensor) -> Tensor:
        """``noisy`` ``batch channel *space``, ``embedding`` ``batch embedding_width`` to ``batch width *space``."""
        modulation = self.modulation(embedding)[(..., *[None] * (noisy.ndim - 2))]
        scale, shift, gate = modulation.chunk(3, 1)
        hidden = self.enter(noisy)
        hidden = hidden + self.body(F.silu(self.norm(hidden) * (1 + scale) + shift))
        return hidden * (1 + gate)


class AlignedUpdate(nn.Module):
    """The update of one site: ``W_0 sum over senders of P(h_B)``; a fresh one is exactly 0 (method F7).

    W_0 is shared over the senders, so that a frozen receiver can read a new one. Nothing is added outside the fields
    of view of the senders, nor by an absent one.
    """

    def __init__(self, site: Site, grid: PatientGrid, feature_width: int) -> None:
        super().__init__()
        self.space, self.grid = site.grid, grid
        self.to_update = nn.Linear(feature_width, site.width, bias=False)
        nn.init.zeros_(self.to_update.weight)

    def forward(self, context: Context) -> Tensor:
        """Return the update ``batch width *grid`` in the dtype of the weights."""
        weight = self.to_update.weight
        if not context.aligned:
            return weight.new_zeros(len(context.tokens), len(weight), *self.space)
        parts = [resampled(each.to(weight.dtype), grid, self.grid) for grid, each in context.aligned.items()]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        mixed = (weight @ total.flatten(2)).unflatten(2, total.shape[2:])
        return from_patient_axes(mixed, self.grid, self.space)


def new_aligned_update(site: Site, geometry: Geometry | None, feature_width: int) -> AlignedUpdate | None:
    """Return the update of a site; ``None`` where the geometry gives it no grid in the patient (`patient_grid`)."""
    grid = patient_grid(geometry, site.grid)
    return None if grid is None else AlignedUpdate(site, grid, feature_width)


def masked_features(aligned: AlignedFeatures, read: Tensor) -> dict[PatientGrid, Tensor]:
    """Return the features, exactly 0 where not ``read`` (bool ``batch``; method F4, F7)."""
    return {
        grid: torch.where(read.to(each.device)[(..., *[None] * (each.ndim - 1))], each, 0)
        for grid, each in aligned.items()
    }


def summed_features(parts: Sequence[AlignedFeatures]) -> dict[PatientGrid, Tensor]:
    """Return the features of several senders by grid; those on one grid are added, since P and W_0 are linear."""
    total: dict[PatientGrid, Tensor] = {}
    for part in parts:
        for grid, features in part.items():
            total[grid] = total[grid] + features if grid in total else features
    return total
