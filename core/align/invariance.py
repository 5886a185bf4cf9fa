"""Visual invariance in a round of alignment: two augmented views of each trained image (method E3; Barlow Twins)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.align.losses import barlow_twins
from core.data.studies import Studies
from core.engine.distributed import Compute
from core.engine.rng import forked_rng

_WIDEST = 2048


class Projector(nn.Module):
    """The projector in front of the invariance loss, dropped after the phase (method E3; Barlow Twins).

    Linear-BN-ReLU twice, Linear, BN without affine: ``batch width`` to ``batch`` 4 ``width`` (at most 2048).

    Batch normalisation sees the rows it is given: with several processes, give it those of all.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = min(_WIDEST, 4 * width)
        self.layers = nn.Sequential(
            nn.Linear(width, inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(),
            nn.Linear(inner, inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(),
            nn.Linear(inner, inner, bias=False),
            nn.BatchNorm1d(inner, affine=False),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Map ``batch width`` to standardised ``batch inner``."""
        return self.layers(pooled)


class Invariance:
    """Projectors of the images whose encoders a round trains, one per encoder; empty where there are none."""

    def __init__(self, encoders: Mapping[str, Any], trained: Mapping[str, Any], studies: Studies, seed: int) -> None:
        images = [name for name in encoders if studies.parts[name].data.kind == "grid"]
        key_of = {name: key for name in images for key, module in trained.items() if encoders[name] is module}
        self.projectors: dict[str, Projector] = {}
        for name, key in key_of.items():
            if key not in self.projectors:
                with forked_rng(seed, "projector", key):
                    self.projectors[key] = Projector(encoders[name].width)
        self._key_of = key_of

    def __contains__(self, name: str) -> bool:
        return name in self._key_of

    @property
    def modules(self) -> dict[str, Projector]:
        """The modules that train along with the encoders, by name."""
        return {f"projector.{key}": projector for key, projector in self.projectors.items()}

    def loss(self, name: str, first: Tensor, second: Tensor, off_diagonal_weight: float) -> Tensor:
        """Return the Barlow Twins term of two views' pooled vectors, each ``batch width`` of the whole batch."""
        project = self.projectors[self._key_of[name]]
        return barlow_twins(project(first), project(second), off_diagonal_weight)


def gradient_norms(
    groups: Mapping[str, Sequence[Tensor]], parameters: Sequence[Tensor], compute: Compute
) -> dict[str, float]:
    """Return the norm of each group's gradient by the encoders, which shows whether one group dominates."""
    norms = {}
    for group, terms in groups.items():
        total = torch.stack(list(terms)).sum()
        gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
        flat = [
            torch.zeros_like(weight).flatten() if gradient is None else gradient.flatten()
            for weight, gradient in zip(parameters, gradients, strict=True)
        ]
        norms[f"gradient of {group}"] = float(compute.mean(torch.cat(flat)).norm())
    return norms
