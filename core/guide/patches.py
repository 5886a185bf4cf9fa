"""Latents of any shape to a short row of patches (METHOD F2)."""

from __future__ import annotations

import math

from torch import Tensor

from core.types import Space

LARGEST_GRID = {1: 64, 2: 8, 3: 4}  # tokens along each axis, by the number of axes
NUM_VECTOR_TOKENS = 4


def patch_sizes(space: Space) -> tuple[int, ...]:
    """Edge of a patch along each axis: the smallest divisor that leaves at most `LARGEST_GRID` tokens."""
    return tuple(
        next(edge for edge in range(1, side + 1) if side % edge == 0 and side // edge <= LARGEST_GRID[len(space)])
        for side in space
    )


def token_grid(space: Space) -> Space:
    """Tokens along each axis; ``()`` for a vector, which has `NUM_VECTOR_TOKENS` without a place."""
    return tuple(side // edge for side, edge in zip(space, patch_sizes(space), strict=True))


def num_tokens(space: Space) -> int:
    """Tokens of a latent."""
    return math.prod(token_grid(space)) if space else NUM_VECTOR_TOKENS


def patch_width(channels: int, space: Space) -> int:
    """Numbers in one patch."""
    return channels * math.prod(patch_sizes(space))


def patches(latent: Tensor, space: Space) -> Tensor:
    """``batch channel *space`` to ``batch length (channel *patch)``, row by row; a vector is one patch."""
    batch, channels = latent.shape[:2]
    if not space:
        return latent[:, None]
    edges = patch_sizes(space)
    split = [size for side, edge in zip(space, edges, strict=True) for size in (side // edge, edge)]
    cells = latent.reshape(batch, channels, *split)
    axes = range(len(space))
    order = (0, *(2 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes))
    return cells.permute(order).reshape(batch, num_tokens(space), patch_width(channels, space))
