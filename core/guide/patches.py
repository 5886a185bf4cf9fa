"""Patches of a latent: what a context encoder makes its tokens of (method F2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from core.types import Space

NUM_VECTOR_TOKENS = 4
MOST_TOKENS = (64, 8, 4)  # along each axis of a sequence, a plane and a volume


@dataclass(frozen=True)
class PatchGrid:
    """The patches into which latents of a ``space`` are cut: at most ``most[axes - 1]`` of them along each axis.

    A vector is one patch, which gives `NUM_VECTOR_TOKENS` tokens.
    """

    space: Space
    most: tuple[int, int, int] = MOST_TOKENS

    @property
    def edges(self) -> Space:
        """Return the edge of a patch along each axis: the smallest divisor that leaves few enough patches."""
        return tuple(
            next(
                edge
                for edge in range(1, side + 1)
                if side % edge == 0 and side // edge <= self.most[len(self.space) - 1]
            )
            for side in self.space
        )

    @property
    def grid(self) -> Space:
        """Return the tokens along each axis; ``()`` for a vector, whose tokens have no position."""
        return tuple(side // edge for side, edge in zip(self.space, self.edges, strict=True))

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens of a latent."""
        return math.prod(self.grid) if self.space else NUM_VECTOR_TOKENS

    @property
    def tokens_per_patch(self) -> int:
        """Return how many tokens one patch gives."""
        return 1 if self.space else NUM_VECTOR_TOKENS

    def width(self, channels: int) -> int:
        """Return how many numbers one patch of a latent with ``channels`` holds."""
        return channels * math.prod(self.edges)

    def cut(self, latent: Tensor) -> Tensor:
        """Cut ``batch channel *space`` into ``batch patch (channel *edge)``, row by row."""
        batch, channels = latent.shape[:2]
        if not self.space:
            return latent[:, None]
        split = [size for side, edge in zip(self.grid, self.edges, strict=True) for size in (side, edge)]
        cells = latent.reshape(batch, channels, *split)
        axes = range(len(self.space))
        order = (0, *(2 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes))
        return cells.permute(order).reshape(batch, self.num_tokens, self.width(channels))
