"""The 3-D denoiser: MONAI's ``DiffusionModelUNet`` with sites for context attention (method E10, E13).

The sites also work in 2-D; they add a prompt mask and gradient checkpointing. MONAI passes its ``context`` argument to
every transformer block unread: pass `Conditioning`. A plain tensor is, as in MONAI, a prompt without a mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.blocks.crossattention import CrossAttentionBlock
from monai.networks.nets.diffusion_model_unet import (
    DiffusionModelUNet,
    DiffusionUNetResnetBlock,
    DiffusionUNetTransformerBlock,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.contract.modality import Site
from core.nn.attention import attend
from core.nn.denoisers.monai_attention import MonaiSelfAttention
from core.nn.denoisers.residual_sites import (
    INPUT,
    UpdatedInput,
    install_residual_sites,
    residual_arguments,
    with_update,
)
from core.nn.denoisers.sites import ContextSite, SitedDenoiser, halved, reclass, replace_each, unet_level
from core.types import Conditioning

if TYPE_CHECKING:
    from core.nn.denoisers.config import GridDenoiserConfig


_MIDDLE = "middle_block"


class VolumeDenoiser(SitedDenoiser):
    """Latents ``batch channel depth height width``; see `GridDenoiserConfig`."""

    def __init__(self, config: GridDenoiserConfig) -> None:
        network = _from_scratch(config)
        blocks = install_monai_sites(network, gradient_checkpointing=config.gradient_checkpointing)
        sites = [
            Site(path, block.norm1.normalized_shape[0], halved(config.space, unet_level(path, len(config.widths))))
            for path, block in blocks.items()
        ]
        sites += install_residual_sites(network, UpdatedConvolution, config.widths, config.space, _MIDDLE)
        super().__init__(
            network,
            sites,
            channels=config.channels,
            space=config.space,
            prompt_width=config.prompt_width,
            pooled_width=config.pooled_width,
        )

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the network; same shape as ``noisy``."""
        pooled = None if self.pooled_width is None else conditioning.pooled
        updates = self.updates(noisy, conditioning.context)
        return self.network(
            with_update(noisy, updates.get(INPUT)),
            timestep,
            context=cast(Any, conditioning),  # MONAI passes it on unread; the sites read the whole conditioning from it
            class_labels=pooled,
            **residual_arguments(self.network, updates, _MIDDLE),
        )


class UpdatedConvolution(UpdatedInput, Convolution):  # pyright: ignore[reportIncompatibleMethodOverride]
    """MONAI's first convolution with an update."""


def _from_scratch(config: GridDenoiserConfig) -> DiffusionModelUNet:
    network = DiffusionModelUNet(
        spatial_dims=len(config.space),
        in_channels=config.channels,
        out_channels=config.channels,
        num_res_blocks=config.num_blocks,
        channels=config.widths,
        attention_levels=config.attention,
        norm_num_groups=config.norm_groups,
        num_head_channels=config.head_widths,
        with_conditioning=True,
        cross_attention_dim=config.prompt_width,
        use_flash_attention=True,  # PyTorch's fused attention: volumes have too many tokens for a full score matrix
    )
    if config.pooled_width is not None:
        # MONAI adds `class_embedding(class_labels)` to the time embedding; with an MLP there, labels can be vectors.
        time_width = 4 * config.widths[0]
        network.num_class_embeds = 1
        network.class_embedding = cast(
            Any,
            nn.Sequential(nn.Linear(config.pooled_width, time_width), nn.SiLU(), nn.Linear(time_width, time_width)),
        )
    return network


def install_monai_sites(
    network: DiffusionModelUNet, *, gradient_checkpointing: bool = False
) -> dict[str, MonaiTransformerSite]:
    """Turn the transformer blocks of ``network`` into sites in place; return the sites by path.

    With ``gradient_checkpointing`` transformer and residual blocks store no activations. Parameter names stay.
    """
    sites: dict[str, MonaiTransformerSite] = {}

    def site_at(path: str, block: nn.Module) -> MonaiTransformerSite:
        sites[path] = reclass(block, MonaiTransformerSite)
        sites[path].site = path
        sites[path].checkpointed = gradient_checkpointing
        sites[path].attn1 = reclass(sites[path].attn1, MonaiSelfAttention)
        sites[path].attn2 = reclass(sites[path].attn2, MaskedCrossAttention)
        return sites[path]

    replace_each(network, DiffusionUNetTransformerBlock, site_at)
    if gradient_checkpointing:
        replace_each(network, DiffusionUNetResnetBlock, lambda _, block: reclass(block, CheckpointedResidual))
    return sites


class MonaiTransformerSite(ContextSite, DiffusionUNetTransformerBlock):
    """MONAI's transformer block, then context attention."""

    checkpointed: bool

    def forward(self, x: Tensor, context: Conditioning | Tensor | None = None) -> Tensor:
        """Transform ``x`` ``batch tokens width``; same shape out."""
        if self.checkpointed and torch.is_grad_enabled():
            return checkpoint(self._run, x, context, use_reentrant=False)
        return self._run(x, context)

    def _run(self, x: Tensor, context: Any) -> Tensor:
        hidden = DiffusionUNetTransformerBlock.forward(self, x, context)
        return self.joined(hidden, context.context if isinstance(context, Conditioning) else None)


class CheckpointedResidual(DiffusionUNetResnetBlock):
    """MONAI's residual block, whose activations are computed again in the backward pass."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Transform ``x`` ``batch channel *space`` with the embedding ``emb`` ``batch width``."""
        if torch.is_grad_enabled():
            return checkpoint(super().forward, x, emb, use_reentrant=False)
        return super().forward(x, emb)


class MaskedCrossAttention(CrossAttentionBlock):
    """MONAI's cross-attention over the prompt of a `Conditioning`, with its mask."""

    def forward(self, x: Tensor, context: Conditioning | Tensor | None = None) -> Tensor:
        """Attend from ``x`` ``batch tokens width``, same shape out. Without a mask MONAI's computation is unchanged."""
        if not isinstance(context, Conditioning):
            return super().forward(x, context)
        if context.prompt_mask is None:
            return super().forward(x, context.prompt)
        return self._masked(x, context.prompt, context.prompt_mask)

    def _masked(self, x: Tensor, prompt: Tensor, mask: Tensor) -> Tensor:
        query = self.input_rearrange(self.to_q(x))
        key = self.input_rearrange(self.to_k(prompt))
        value = self.input_rearrange(self.to_v(prompt))
        dtype = self.attention_dtype or value.dtype
        attended = attend(
            query.to(dtype),
            key.to(dtype),
            value.to(dtype),
            mask[:, None, None, :],
            dropout_p=self.dropout_rate if self.training else 0.0,
            scale=self.scale,
        )
        return self.drop_output(self.out_proj(self.out_rearrange(attended.to(value.dtype))))
