"""The 3-D denoiser: MONAI's ``DiffusionModelUNet`` with sites (METHOD E10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn

from core.contract.modality import Site
from core.nn.monai_sites import offer_monai_sites
from core.nn.sited_denoiser import SitedDenoiser
from core.nn.sites import halved, unet_level
from core.types import Conditioning

if TYPE_CHECKING:
    from core.nn.denoisers import GridDenoiserConfig


class VolumeDenoiser(SitedDenoiser):
    """Latents ``batch channel depth height width``; see `GridDenoiserConfig`."""

    def __init__(self, config: GridDenoiserConfig) -> None:
        network = _from_scratch(config)
        blocks = offer_monai_sites(network, gradient_checkpointing=config.gradient_checkpointing)
        sites = [
            Site(path, block.norm1.normalized_shape[0], halved(config.space, unet_level(path, len(config.widths))))
            for path, block in blocks.items()
        ]
        super().__init__(
            network,
            sites,
            channels=config.channels,
            space=config.space,
            prompt_width=config.prompt_width,
            pooled_width=config.pooled_width,
        )

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Same shape as ``noisy``."""
        pooled = None if self._pooled_width is None else conditioning.pooled
        # MONAI passes its context on unread; our blocks take the whole conditioning out of it.
        return self.network(noisy, timestep, context=cast(Any, conditioning), class_labels=pooled)


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
