"""Blocks of the 0-D UNet (METHOD E11, Versatile Diffusion). Features are ``batch width position``."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.nn.sites import ContextSite
from core.types import Conditioning

NUM_POSITIONS = 4
MAX_PERIOD = 10_000


def timestep_features(timestep: Tensor, width: int) -> Tensor:
    """Cosines, then sines of a timestep at ``width / 2`` frequencies; ``batch`` to float32 ``batch width``."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timestep.device) / half
    angle = timestep.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with weights and bias of 0, so that its branch starts without effect."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class FlatLinear(nn.Linear):
    """A Linear over width and positions together: ``batch in_width position`` to ``batch out_width position``."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(in_width * NUM_POSITIONS, out_width * NUM_POSITIONS)

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        return super().forward(input.flatten(1)).unflatten(1, (-1, NUM_POSITIONS))


class VectorResidual(nn.Module):
    """Fully connected residual block (METHOD E11): norm, SiLU, Linear, + time, norm, SiLU, zeroed Linear, + skip."""

    def __init__(self, in_width: int, out_width: int, time_width: int, norm_groups: int) -> None:
        super().__init__()
        size = out_width * NUM_POSITIONS
        self.norm_in = nn.GroupNorm(norm_groups, in_width * NUM_POSITIONS)
        self.linear_in = nn.Linear(in_width * NUM_POSITIONS, size)
        self.time = nn.Linear(time_width, size)
        self.norm_out = nn.GroupNorm(norm_groups, size)
        self.linear_out = zeroed(nn.Linear(size, size))
        self.skip = nn.Identity() if in_width == out_width else nn.Linear(in_width * NUM_POSITIONS, size)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """``batch in_width position`` and ``batch time_width`` to ``batch out_width position``."""
        flat = features.flatten(1)
        hidden = self.linear_in(F.silu(self.norm_in(flat))) + self.time(F.silu(time))
        hidden = self.linear_out(F.silu(self.norm_out(hidden)))
        return (self.skip(flat) + hidden).unflatten(1, (-1, NUM_POSITIONS))


class Attention(nn.Module):
    """Multi-head attention of ``batch tokens width`` to themselves or to ``batch length source_width``."""

    def __init__(self, width: int, source_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key = nn.Linear(source_width, width, bias=False)
        self.to_value = nn.Linear(source_width, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, hidden: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """``mask`` bool ``batch length``, true where a source token counts."""
        query, key, value = (
            features.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for features in (self.to_query(hidden), self.to_key(source), self.to_value(source))
        )
        attention = None if mask is None else mask[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=attention)
        return self.to_out(attended.transpose(1, 2).flatten(2))


class VectorTransformerSite(ContextSite):
    """Self-attention, cross-attention to the prompt, gated feed-forward (GEGLU), then context attention."""

    def __init__(self, width: int, prompt_width: int, num_heads: int) -> None:
        super().__init__()
        self.width = width
        self.norm_self = nn.LayerNorm(width)
        self.attention_self = Attention(width, width, num_heads)
        self.norm_prompt = nn.LayerNorm(width)
        self.attention_prompt = Attention(width, prompt_width, num_heads)
        self.norm_feed = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, 8 * width)
        self.feed_out = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor, conditioning: Conditioning) -> Tensor:
        """``hidden`` ``batch tokens width``, same shape out."""
        normed = self.norm_self(hidden)
        hidden = hidden + self.attention_self(normed, normed)
        prompt, mask = conditioning.prompt, conditioning.prompt_mask
        hidden = hidden + self.attention_prompt(self.norm_prompt(hidden), prompt, mask)
        value, gate = self.feed_in(self.norm_feed(hidden)).chunk(2, dim=-1)
        hidden = hidden + self.feed_out(value * F.gelu(gate))
        return self.joined(hidden, conditioning.context)


class VectorTransformer(nn.Module):
    """A transformer block whose tokens are the positions, between two Linears, with a skip."""

    def __init__(self, width: int, prompt_width: int, num_heads: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.block = VectorTransformerSite(width, prompt_width, num_heads)
        self.proj_out = zeroed(nn.Linear(width, width))

    def forward(self, features: Tensor, conditioning: Conditioning) -> Tensor:
        """``batch width position``, same shape out."""
        tokens = self.proj_in(self.norm(features).transpose(1, 2))
        return features + self.proj_out(self.block(tokens, conditioning)).transpose(1, 2)
