"""The denoiser of vector latents: the 0-D UNet with sites (METHOD E11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from core.contract.modality import Site
from core.nn.sited_denoiser import SitedDenoiser
from core.nn.vector_blocks import NUM_POSITIONS
from core.nn.vector_unet import VectorUNet
from core.types import Conditioning

if TYPE_CHECKING:
    from core.nn.denoisers import VectorDenoiserConfig


class VectorDenoiser(SitedDenoiser):
    """Latents ``batch channel``; see `VectorDenoiserConfig`. The grid of every site is its four positions."""

    def __init__(self, config: VectorDenoiserConfig) -> None:
        network = VectorUNet(latent_width=config.width, **config.model_dump(exclude={"width"}))
        sites = [Site(path, block.width, (NUM_POSITIONS,)) for path, block in network.sites().items()]
        super().__init__(network, sites, channels=config.width, space=(), prompt_width=config.prompt_width)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Same shape as ``noisy``."""
        return self.network(noisy, timestep, conditioning)
