"""A partner's summary: one vector, which a receiver adds to the pooled vector of its prompt (method F7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from core.contract.modality import Site
from core.types import Context, Space

_MOST_CELLS = 4  # along an axis, when a grid is read as one vector
_LARGEST_GROUP_COUNT = 8


class SummaryBranch(nn.Module):
    """The summary s_B of a latent: what no place holds alone, such as habitus, and all of a report (method F7).

    A grid is halved by convolutions until it has at most 4 cells a side, and then read as one vector; a vector is read
    as it is. As in `core.guide.aligned.AlignedBranch`, ``embedding`` scales and shifts the normalised features, and a
    gate scales the output: level, clean flag and sender decide how much is sent. ``space`` of the latent, ``width``
    features out, ``embedding_width`` of the embedding.
    """

    def __init__(self, channels: int, space: Space, width: int, embedding_width: int) -> None:
        super().__init__()
        first, hidden = max(width // 4, 1), max(width // 2, 1)
        entered = first if space else width
        self.enter = _layer(channels, entered, space, stride=1)
        # A group of a vector needs several features: one alone would always be normalised to 0.
        self.norm = nn.GroupNorm(math.gcd(entered, _LARGEST_GROUP_COUNT) if space else 1, entered)
        halvings, cells = _halvings(space)
        widths = [entered, *[hidden] * halvings]
        self.halve = nn.ModuleList(_layer(before, after, space, stride=2) for before, after in pairwise(widths))
        self.leave = nn.Linear(widths[-1] * math.prod(cells), width)
        self.modulation = nn.Linear(embedding_width, 2 * entered + width)

    def forward(self, noisy: Tensor, embedding: Tensor) -> Tensor:
        """``noisy`` ``batch channel *space``, ``embedding`` ``batch embedding_width`` to ``batch width``."""
        modulation, entered = self.modulation(embedding), self.norm.num_channels
        scale, shift, gate = modulation.split([entered, entered, modulation.shape[1] - 2 * entered], 1)
        scale, shift = (each[(..., *[None] * (noisy.ndim - 2))] for each in (scale, shift))
        hidden = F.silu(self.norm(self.enter(noisy)) * (1 + scale) + shift)
        for layer in self.halve:
            hidden = F.silu(layer(hidden))
        return self.leave(hidden.flatten(1)) * (1 + gate)


class SummaryUpdate(nn.Module):
    """The update ``W_0 sum over senders of s_B`` of the pooled vector; a fresh one is exactly 0 (method F7).

    W_0 is shared over the senders, so that a frozen receiver can read a new one. An absent sender adds nothing.
    """

    def __init__(self, site: Site, summary_width: int) -> None:
        super().__init__()
        self.to_update = nn.Linear(summary_width, site.width, bias=False)
        nn.init.zeros_(self.to_update.weight)

    def forward(self, context: Context) -> Tensor:
        """Return the update ``batch width`` in the dtype of the weights."""
        weight = self.to_update.weight
        if context.summary is None:
            return weight.new_zeros(len(context.tokens), len(weight))
        return self.to_update(context.summary.to(weight.dtype))


def summed_summaries(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Return the sum of the summaries of several senders, ``batch width``; ``None`` where none sends one."""
    sent = [part for part in parts if part is not None]
    total = sent[0] if sent else None
    for part in sent[1:]:
        total = total + part if total is not None else part
    return total


def _layer(before: int, after: int, space: Space, stride: int) -> nn.Module:
    """Return a convolution in as many dimensions as ``space`` has, a linear layer where it has none."""
    if not space:
        return nn.Linear(before, after)
    return {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(space)](before, after, 3, stride=stride, padding=1)


def _halvings(space: Space) -> tuple[int, Space]:
    """Return how often a grid is halved until it has few cells along each axis, and its cells then."""
    times = 0
    while max(space, default=0) > _MOST_CELLS:
        space, times = tuple(-(-size // 2) for size in space), times + 1
    return times, space
