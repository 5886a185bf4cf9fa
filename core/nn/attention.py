"""Attention in one module: every block of ours and of the stock networks computes it here."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
    """Return softmax(query keyᵀ / √width + mask) value, ``batch head token width`` as ``query`` and ``key``.

    ``mask``: bool, true where a query attends, or what is added to the scores; ``batch or 1, head or 1, query or 1,
    length``.
    """
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)


def by_head(features: Tensor, num_heads: int) -> Tensor:
    """Return ``batch token (head width)`` as ``batch head token width``."""
    return rearrange(features, "batch token (head width) -> batch head token width", head=num_heads)


def heads_joined(attended: Tensor) -> Tensor:
    """Return ``batch head token width`` as ``batch token (head width)``."""
    return rearrange(attended, "batch head token width -> batch token (head width)")
