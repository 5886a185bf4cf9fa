"""The UNet without space that denoises a text latent (METHOD E11, the 0-D UNet of Versatile Diffusion)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.nn.vector_blocks import (
    NUM_POSITIONS,
    FlatLinear,
    VectorResidual,
    VectorTransformer,
    VectorTransformerSite,
    timestep_features,
    zeroed,
)
from core.types import Conditioning


class VectorStage(nn.Module):
    """A residual block, and attention where the level has it."""

    def __init__(self, residual: VectorResidual, transformer: VectorTransformer | None) -> None:
        super().__init__()
        self.residual = residual
        self.transformer = transformer

    def forward(self, features: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        """``batch in_width position`` to ``batch out_width position``."""
        features = self.residual(features, time)
        return features if self.transformer is None else self.transformer(features, conditioning)


MakeStage = Callable[[int, int, bool], VectorStage]


class VectorUNet(nn.Module):
    """Noisy vector, timestep and conditioning to a prediction (METHOD E11).

    ``latent_width`` features of the latent; level ``k`` is ``model_width * multipliers[k]`` wide, 4 positions
    throughout, with attention where ``attention[k]``. ``num_blocks`` stages per level on the way down, one more on
    the way up, each of which takes the matching skip. What is "resampling" in an image UNet is a Linear here.
    With ``gradient_checkpointing`` every stage keeps its input only.
    """

    def __init__(
        self,
        *,
        latent_width: int,
        model_width: int,
        prompt_width: int,
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
        self.time_embedding = nn.Sequential(
            nn.Linear(model_width, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )

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
        """``noisy`` ``batch latent_width``, ``timestep`` ``batch`` (fractional); same shape as ``noisy`` out."""
        time = self.time_embedding(timestep_features(timestep, self.model_width).to(noisy.dtype))
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
        """Path of each transformer block to the block, which is a site already."""
        return {path: block for path, block in self.named_modules() if isinstance(block, VectorTransformerSite)}


def _way_down(
    widths: Sequence[int], attention: Sequence[bool], num_blocks: int, stage: MakeStage
) -> tuple[nn.ModuleList, list[int]]:
    """The layers on the way down, and the width of every skip that they leave, the input's first."""
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
    """The layers on the way up; every stage takes the last skip that is left."""
    layers, current, left = nn.ModuleList(), widths[-1], list(skips)
    for level in reversed(range(len(widths))):
        for _ in range(num_blocks + 1):
            layers.append(stage(current + left.pop(), widths[level], attention[level]))
            current = widths[level]
        if level:
            layers.append(FlatLinear(current, current))
    return layers
