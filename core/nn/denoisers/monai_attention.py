"""The self-attention of MONAI's transformer blocks, computed by `core.nn.attention` (decision 22)."""

from __future__ import annotations

from monai.networks.blocks.selfattention import SABlock
from torch import Tensor

from core.nn.attention import attend, by_head, heads_joined


class MonaiSelfAttention(SABlock):
    """MONAI's self-attention with a fused kernel."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Attend among ``x`` ``batch tokens width``; same shape out."""
        if not self.use_flash_attention or self.use_combined_linear or self.causal or attn_mask is not None:
            return super().forward(x, attn_mask)
        query, key, value = (by_head(layer(x), self.num_heads) for layer in (self.to_q, self.to_k, self.to_v))
        dtype = self.attention_dtype or query.dtype
        dropout = self.dropout_rate if self.training else 0.0
        attended = attend(query.to(dtype), key.to(dtype), value, scale=self.scale, dropout_p=dropout)
        return self.drop_output(self.out_proj(heads_joined(attended)))
