"""The 0-D UNet with sites that denoises a text latent (method E11, Versatile Diffusion).

Features are ``batch width position``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.contract.modality import Site
from core.nn.attention import attend, by_head, heads_joined
from core.nn.denoisers.sites import ContextSite, SitedDenoiser
from core.types import Conditioning

if TYPE_CHECKING:
    from core.nn.denoisers.config import VectorDenoiserConfig

NUM_POSITIONS = 4
MAX_PERIOD = 10_000
MakeStage = Callable[[int, int, bool], "VectorStage"]


class VectorDenoiser(SitedDenoiser):
    """Latents ``batch channel``; see `VectorDenoiserConfig`. The grid of every site is its four positions."""

    def __init__(self, config: VectorDenoiserConfig) -> None:
        network = VectorUNet(latent_width=config.width, **config.model_dump(exclude={"width"}))
        sites = [Site(path, block.width, (NUM_POSITIONS,)) for path, block in network.sites().items()]
        super().__init__(
            network,
            sites,
            channels=config.width,
            space=(),
            prompt_width=config.prompt_width,
            pooled_width=config.pooled_width,
        )

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the network; same shape as ``noisy``."""
        return self.network(noisy, timestep, conditioning)


class VectorUNet(nn.Module):
    """Noisy vector, timestep and conditioning to a prediction (method E11).

    ``latent_width`` features of the latent; level ``k`` is ``model_width * multipliers[k]`` wide, 4 positions
    throughout, with attention where ``attention[k]``. ``num_blocks`` stages per level on the way down, one more on
    the way up, each of which takes the matching skip. What is "resampling" in an image UNet is a Linear here.
    ``pooled_width``: an MLP of the pooled vector is added to the time embedding.
    With ``gradient_checkpointing`` every stage stores its input only.
    """

    def __init__(
        self,
        *,
        latent_width: int,
        model_width: int,
        prompt_width: int,
        pooled_width: int | None = None,
        multipliers: Sequence[int] = (1, 2, 4, 4),
        attention: Sequence[bool] = (True, True, True, False),
        num_blocks: int = 2,
        num_heads: int = 8,
        norm_groups: int = 32,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.model_width = model_width
        self.gradient_checkpointing = gradient_checkpointing
        time_width = 4 * model_width
        self.time_embedding = embedding_mlp(model_width, time_width)
        self.pooled_embedding = None if pooled_width is None else embedding_mlp(pooled_width, time_width)

        def stage(in_width: int, out_width: int, attends: bool) -> VectorStage:
            residual = VectorResidual(in_width, out_width, time_width, norm_groups)
            transformer = VectorTransformer(out_width, prompt_width, num_heads, norm_groups) if attends else None
            return VectorStage(residual, transformer)

        widths = [model_width * multiplier for multiplier in multipliers]
        self.linear_in = nn.Linear(latent_width, widths[0] * NUM_POSITIONS)
        self.down, skips = _way_down(widths, attention, num_blocks, stage)
        self.middle = nn.ModuleList([stage(widths[-1], widths[-1], True), stage(widths[-1], widths[-1], False)])
        self.up = _way_up(widths, attention, num_blocks, skips, stage)
        self.norm_out = nn.GroupNorm(norm_groups, widths[0] * NUM_POSITIONS)
        self.linear_out = zeroed(nn.Linear(widths[0] * NUM_POSITIONS, latent_width))
        for path, block in self.sites().items():
            block.site = path

    def forward(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict from ``noisy`` ``batch latent_width`` at fractional ``timestep`` ``batch``; same shape out."""
        time = self.time_embedding(timestep_features(timestep, self.model_width).to(noisy.dtype))
        if self.pooled_embedding is not None and conditioning.pooled is not None:
            time = time + self.pooled_embedding(conditioning.pooled)
        features = self.linear_in(noisy).unflatten(1, (-1, NUM_POSITIONS))
        skips = [features]
        for layer in self.down:
            features = self._run(layer, features, time, conditioning)
            skips.append(features)
        for layer in self.middle:
            features = self._run(layer, features, time, conditioning)
        for layer in self.up:
            if isinstance(layer, VectorStage):
                features = torch.cat([features, skips.pop()], dim=1)
            features = self._run(layer, features, time, conditioning)
        return self.linear_out(F.silu(self.norm_out(features.flatten(1))))

    def _run(self, layer: nn.Module, features: Tensor, *arguments: Any) -> Tensor:
        if isinstance(layer, FlatLinear):
            return layer(features)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, features, *arguments, use_reentrant=False)
        return layer(features, *arguments)

    def sites(self) -> dict[str, VectorTransformerSite]:
        """Return the transformer blocks, which are sites already, by path."""
        return {path: block for path, block in self.named_modules() if isinstance(block, VectorTransformerSite)}


def _way_down(
    widths: Sequence[int], attention: Sequence[bool], num_blocks: int, stage: MakeStage
) -> tuple[nn.ModuleList, list[int]]:
    """Return the layers on the way down, and the widths of their skips, that of the input first."""
    layers, current, skips = nn.ModuleList(), widths[0], [widths[0]]
    for level, (width, attends) in enumerate(zip(widths, attention, strict=True)):
        for _ in range(num_blocks):
            layers.append(stage(current, width, attends))
            current = width
            skips.append(width)
        if level < len(widths) - 1:
            layers.append(FlatLinear(width, width))
            skips.append(width)
    return layers, skips


def _way_up(
    widths: Sequence[int], attention: Sequence[bool], num_blocks: int, skips: Sequence[int], stage: MakeStage
) -> nn.ModuleList:
    """Return the layers on the way up; every stage takes the last remaining skip."""
    layers, current, left = nn.ModuleList(), widths[-1], list(skips)
    for level in reversed(range(len(widths))):
        for _ in range(num_blocks + 1):
            layers.append(stage(current + left.pop(), widths[level], attention[level]))
            current = widths[level]
        if level:
            layers.append(FlatLinear(current, current))
    return layers


class VectorStage(nn.Module):
    """A residual block, and attention where the level has it."""

    def __init__(self, residual: VectorResidual, transformer: VectorTransformer | None) -> None:
        super().__init__()
        self.residual = residual
        self.transformer = transformer

    def forward(self, features: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        """Map ``batch in_width position`` to ``batch out_width position``."""
        features = self.residual(features, time)
        return features if self.transformer is None else self.transformer(features, conditioning)


class VectorTransformer(nn.Module):
    """A transformer block whose tokens are the positions, between two Linears, with a skip."""

    def __init__(self, width: int, prompt_width: int, num_heads: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.block = VectorTransformerSite(width, prompt_width, num_heads)
        self.proj_out = zeroed(nn.Linear(width, width))

    def forward(self, features: Tensor, conditioning: Conditioning) -> Tensor:
        """Transform ``batch width position``; same shape out."""
        tokens = self.proj_in(self.norm(features).transpose(1, 2))
        return features + self.proj_out(self.block(tokens, conditioning)).transpose(1, 2)


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
        """Transform ``hidden`` ``batch tokens width``; same shape out."""
        normed = self.norm_self(hidden)
        hidden = hidden + self.attention_self(normed, normed)
        prompt, mask = conditioning.prompt, conditioning.prompt_mask
        hidden = hidden + self.attention_prompt(self.norm_prompt(hidden), prompt, mask)
        value, gate = self.feed_in(self.norm_feed(hidden)).chunk(2, dim=-1)
        hidden = hidden + self.feed_out(value * F.gelu(gate))
        return self.joined(hidden, conditioning.context)


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
        """Attend to source tokens where ``mask`` bool ``batch length`` is true; shape of ``hidden`` out."""
        query, key, value = (
            by_head(features, self.num_heads)
            for features in (self.to_query(hidden), self.to_key(source), self.to_value(source))
        )
        return self.to_out(heads_joined(attend(query, key, value, None if mask is None else mask[:, None, None, :])))


class VectorResidual(nn.Module):
    """Fully connected residual block (method E11): norm, SiLU, Linear, + time, norm, SiLU, zeroed Linear, + skip."""

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
        """Map ``batch in_width position`` and ``batch time_width`` to ``batch out_width position``."""
        flat = features.flatten(1)
        hidden = self.linear_in(F.silu(self.norm_in(flat))) + self.time(F.silu(time))
        hidden = self.linear_out(F.silu(self.norm_out(hidden)))
        return (self.skip(flat) + hidden).unflatten(1, (-1, NUM_POSITIONS))


class FlatLinear(nn.Linear):
    """A Linear over width and positions together: ``batch in_width position`` to ``batch out_width position``."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(in_width * NUM_POSITIONS, out_width * NUM_POSITIONS)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``batch in_width position`` to ``batch out_width position``."""
        return super().forward(input.flatten(1)).unflatten(1, (-1, NUM_POSITIONS))


def timestep_features(timestep: Tensor, width: int) -> Tensor:
    """Return cosines, then sines of a timestep at ``width / 2`` frequencies; ``batch`` to float32 ``batch width``."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timestep.device) / half
    angle = timestep.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def embedding_mlp(width: int, time_width: int) -> nn.Sequential:
    """Return the MLP from ``batch width`` to the time embedding, ``batch time_width``."""
    return nn.Sequential(nn.Linear(width, time_width), nn.SiLU(), nn.Linear(time_width, time_width))


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Set weights and bias of the layer to 0, so that its branch starts without effect, and return it."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
