"""The attention of diffusers' transformer blocks, computed by `core.nn.attention` (decision 22).

Weights and their names stay, and so do the results. Variants that no UNet here uses are left to the library.
"""

from __future__ import annotations

from typing import Any

from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from core.nn.attention import attend, by_head, heads_joined


class DiffusersAttention(AttnProcessor2_0):
    """diffusers' attention of ``batch token width``; the mask serves all heads, without a copy for each."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Attend from ``hidden_states`` to them or to ``encoder_hidden_states``; see diffusers."""
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if _is_special(attn) or hidden_states.ndim != 3 or not _is_row_mask(attention_mask, source):
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs)
        layers: Any = attn
        attended = attend(
            by_head(layers.to_q(hidden_states), attn.heads),
            by_head(layers.to_k(source), attn.heads),
            by_head(layers.to_v(source), attn.heads),
            None if attention_mask is None else attention_mask[:, None],
        )
        out = layers.to_out[1](layers.to_out[0](heads_joined(attended)))
        out = out + hidden_states if attn.residual_connection else out
        return out if attn.rescale_output_factor == 1 else out / attn.rescale_output_factor


def _is_special(attn: Attention) -> bool:
    """Return whether an attention has norms of its own."""
    norms = (attn.spatial_norm, attn.group_norm, attn.norm_cross, attn.norm_q, attn.norm_k)
    return any(norm is not None for norm in norms)


def _is_row_mask(mask: Tensor | None, source: Tensor) -> bool:
    """Return whether a mask is what is added to the scores of each source token, ``batch 1 length``."""
    return mask is None or mask.shape == (len(source), 1, source.shape[1])


def use_shared_attention(block: nn.Module) -> None:
    """Let the attention of a transformer block be computed here."""
    for attention in (getattr(block, "attn1", None), getattr(block, "attn2", None)):
        if isinstance(attention, Attention) and type(attention.processor) is AttnProcessor2_0:
            attention.set_processor(DiffusersAttention())  # type: ignore[arg-type]
