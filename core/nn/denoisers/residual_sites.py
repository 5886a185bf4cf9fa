"""Sites of a UNet where an update ``batch width *grid`` is added to a hidden state (method F7).

They are its input, after the first convolution, its last state at every resolution on the way down, which the way up
reads as a skip, and its middle block. Skips and middle block take updates as a ControlNet gives them. The first
convolution is reclassed and reads its update from further channels of its input. All of it travels as an argument, so
that one network can serve several threads, with gradient checkpointing too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.contract.modality import Site
from core.nn.denoisers.sites import halved, reclass
from core.types import Space

INPUT = "conv_in"


class UpdatedInput(nn.Module):
    """Mixin of a first convolution that adds the further channels of its input, where there are any, to its output."""

    in_channels: int

    def forward(self, noisy: Tensor) -> Tensor:
        """``batch channel *space`` to ``batch width *space``; with an update, ``channel + width`` channels in."""
        if noisy.shape[1] == self.in_channels:
            return super().forward(noisy)
        # Contiguous, so that the convolution computes what it does without an update, bit for bit.
        hidden = super().forward(noisy[:, : self.in_channels].contiguous())
        return hidden + noisy[:, self.in_channels :]


def install_residual_sites(
    network: Any, kind: type[UpdatedInput], widths: Sequence[int], space: Space, middle: str
) -> list[Site]:
    """Reclass the first convolution of a UNet to ``kind`` in place; return the residual sites.

    ``widths`` by level; ``middle`` is the name of the middle block.
    """
    network.conv_in = reclass(network.conv_in, kind)
    sites = [Site(INPUT, widths[0], tuple(space), "residual")]
    for level, width in enumerate(widths):
        sites.append(Site(f"down_blocks.{level}", width, halved(space, level), "residual"))
    return [*sites, Site(middle, widths[-1], halved(space, len(widths) - 1), "residual")]


def skip_names(network: Any) -> list[str]:
    """Return the site of every skip of a UNet, in order; an empty name where a skip has none."""
    names = [""]
    for level, block in enumerate(network.down_blocks):
        names += [""] * (len(block.resnets) - 1) + [f"down_blocks.{level}"]
        # diffusers has a list of them, MONAI one or none.
        downsampling = getattr(block, "downsamplers", None) or getattr(block, "downsampler", None)
        names += [""] if downsampling is not None else []
    return names


def with_update(noisy: Tensor, update: Tensor | None) -> Tensor:
    """Return what the reclassed first convolution reads."""
    return noisy if update is None else torch.cat([noisy, update], 1)


def residual_arguments(network: Any, updates: Mapping[str, Tensor], middle: str) -> dict[str, Any]:
    """Return the updates by site as diffusers' and MONAI's arguments for a ControlNet; none where there are none."""
    if not updates:
        return {}
    nothing = next(iter(updates.values())).new_zeros(())
    return {
        "down_block_additional_residuals": tuple(updates.get(name, nothing) for name in skip_names(network)),
        "mid_block_additional_residual": updates.get(middle, nothing),
    }
