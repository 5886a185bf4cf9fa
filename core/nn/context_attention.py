"""Cross-attention from a denoiser's hidden tokens to the context of its partners (method E13, MedM2G Eq. 6)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import UserError
from core.types import Context


class ContextAttention(nn.Module):
    """A sublayer with separate query, key and value; a fresh one adds exactly 0 (method E13, MedM2G Eq. 6).

    ``width`` features of a hidden token, a multiple of ``num_heads``; ``context_width`` features of a context token.
    Raises `UserError` where the heads do not divide the width.
    """

    def __init__(self, width: int, context_width: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise UserError(f"context attention: width {width} must be a multiple of its number of heads {num_heads}")
        self.num_heads = num_heads
        self.norm_hidden = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(context_width)
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key = nn.Linear(context_width, width, bias=False)
        self.to_value = nn.Linear(context_width, width, bias=False)
        self.to_update = nn.Linear(width, width)
        # Before training, joint generation equals independent generation bit for bit.
        nn.init.zeros_(self.to_update.weight)
        nn.init.zeros_(self.to_update.bias)

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """Return the update to add to ``hidden`` ``batch tokens width``, in the same shape and dtype."""
        # The frozen denoiser may run in bfloat16 while these weights train in float32.
        dtype = self.to_update.weight.dtype
        partners = self.norm_context(context.tokens.to(dtype))
        attended = F.scaled_dot_product_attention(
            self._by_head(self.to_query(self.norm_hidden(hidden.to(dtype)))),
            self._by_head(self.to_key(partners)),
            self._by_head(self.to_value(partners)),
            attn_mask=context.mask[:, None, None, :],
        )
        return self.to_update(attended.transpose(1, 2).flatten(2)).to(hidden.dtype)

    def _by_head(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
