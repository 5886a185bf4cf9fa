"""KL autoencoders for images and volumes (METHOD section 3, E7)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core.nn.pretrained import load_folder
from core.nn.size_checks import equal
from core.types import Batch, LatentSpec, Posterior

if TYPE_CHECKING:
    from core.nn.autoencoders.config import GridAutoencoderConfig


class GridAutoencoder(nn.Module, ABC):
    """`Batch` to latent and back; see `GridAutoencoderConfig`. Subclasses hold the library's network."""

    def __init__(self, network: nn.Module, config: GridAutoencoderConfig) -> None:
        super().__init__()
        self.network: Any = network
        self.spec: LatentSpec = config.spec
        self._kl_weight = config.kl_weight

    @abstractmethod
    def encode(self, batch: Batch) -> Posterior:
        """``batch.data`` ``batch channel *space`` to mean and log-variance in the shape of ``spec``."""

    @abstractmethod
    def reconstruct(self, latent: Tensor) -> Tensor:
        """Latent to data ``batch channel *space``."""

    def decode(self, latent: Tensor) -> Batch:
        """Latent (not scaled) to data. Values are left as they are, beyond [-1, 1] too.

        ``modality`` of the result is ``""``: one autoencoder may serve several modalities, and a latent does not
        say whose it is. The caller, who knows, puts it in.
        """
        return Batch(modality="", data=self.reconstruct(latent))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """``reconstruction``: mean L1; ``kl``: weight times the divergence, summed over a latent (METHOD section 3).

        Both are float32 and averaged over the batch. The draw's noise comes from ``generator`` alone.
        """
        posterior = self.encode(batch)
        found = self.reconstruct(posterior.draw(generator))
        return {
            "reconstruction": F.l1_loss(found.float(), batch.data.float()),
            "kl": self._kl_weight * divergence(posterior).mean(),
        }


class PlaneAutoencoder(GridAutoencoder):
    """Images ``batch channel height width``, by diffusers' ``AutoencoderKL``."""

    def __init__(self, config: GridAutoencoderConfig) -> None:
        network = _plane_network(config) if config.init_from is None else _plane_folder(config, config.init_from)
        if config.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        super().__init__(network, config)
        self._grey = config.channels == 1 and network.config["in_channels"] == 3

    def encode(self, batch: Batch) -> Posterior:
        """See `GridAutoencoder.encode`; one channel is shown to a colour network on all three."""
        data = batch.data.expand(-1, 3, -1, -1) if self._grey else batch.data
        found = self.network.encode(data).latent_dist
        return Posterior(mean=found.mean, logvar=found.logvar)

    def reconstruct(self, latent: Tensor) -> Tensor:
        """See `GridAutoencoder.reconstruct`; of a colour network's channels the mean."""
        data = self.network.decode(latent, return_dict=False)[0]
        return data.mean(dim=1, keepdim=True) if self._grey else data


class VolumeAutoencoder(GridAutoencoder):
    """Volumes ``batch channel depth height width``, by MONAI's ``AutoencoderKL``."""

    def __init__(self, config: GridAutoencoderConfig) -> None:
        from monai.networks.nets.autoencoderkl import AutoencoderKL

        network = AutoencoderKL(
            spatial_dims=3,
            in_channels=config.channels,
            out_channels=config.channels,
            num_res_blocks=config.num_blocks,
            channels=config.widths,
            attention_levels=(False,) * len(config.widths),
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_groups,
            # The middle of a volume has thousands of tokens: convolutions only.
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
            use_checkpoint=config.gradient_checkpointing,
        )
        super().__init__(network, config)

    def encode(self, batch: Batch) -> Posterior:
        """See `GridAutoencoder.encode`."""
        mean, sigma = self.network.encode(batch.data)
        return Posterior(mean=mean, logvar=2 * sigma.log())

    def reconstruct(self, latent: Tensor) -> Tensor:
        """See `GridAutoencoder.reconstruct`."""
        return self.network.decode(latent)


def divergence(posterior: Posterior) -> Tensor:
    """KL divergence of each sample's posterior from the standard normal, summed over its latent; float32 ``batch``."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)


def _plane_network(config: GridAutoencoderConfig) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(config.widths)
    return AutoencoderKL(
        in_channels=config.channels,
        out_channels=config.channels,
        down_block_types=cast(Any, ("DownEncoderBlock2D",) * levels),
        up_block_types=cast(Any, ("UpDecoderBlock2D",) * levels),
        block_out_channels=cast(Any, config.widths),
        layers_per_block=config.num_blocks,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        sample_size=config.space[0],
    )


def _plane_folder(config: GridAutoencoderConfig, folder: str) -> Any:
    """The folder's network, once the fields that others rely on agree with it."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    network = load_folder(AutoencoderKL, folder, "vae")
    name, found, where = type(config).__name__, network.config, f"init_from '{folder}'"
    if (config.channels, found["in_channels"]) != (1, 3):
        equal(name, "channels", config.channels, found["in_channels"], where)
    equal(name, "latent_channels", config.latent_channels, found["latent_channels"], where)
    equal(name, "downsample", config.downsample, 2 ** (len(found["block_out_channels"]) - 1), where)
    return network
