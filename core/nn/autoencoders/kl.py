"""KL autoencoders for images and volumes (method section 3, E7)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor, channels_last, nn

from core.nn.pretrained import load_folder
from core.nn.size_checks import require_equal
from core.types import Batch, LatentSpec, Posterior

if TYPE_CHECKING:
    from core.nn.autoencoders.config import GridAutoencoderConfig

# Points and patches as einops writes them, by the number of axes of space.
_PATTERNS = {2: ("b c (h p) (w q)", "b (c p q) h w"), 3: ("b c (d p) (h q) (w r)", "b (c p q r) d h w")}


class GridAutoencoder(nn.Module, ABC):
    """`Batch` to latent and back; see `GridAutoencoderConfig`. Subclasses hold the library's network."""

    def __init__(self, network: nn.Module, config: GridAutoencoderConfig) -> None:
        super().__init__()
        self.network: Any = network
        self.spec: LatentSpec = config.spec
        self._kl_weight, self._patch = config.kl_weight, config.patch

    @abstractmethod
    def encode(self, batch: Batch) -> Posterior:
        """Encode ``batch.data`` ``batch channel *space`` as mean and log-variance in the shape of ``spec``."""

    @abstractmethod
    def reconstruct(self, latent: Tensor) -> Tensor:
        """Decode a latent to data ``batch channel *space``."""

    def decode(self, latent: Tensor) -> Batch:
        """Decode a latent (not scaled) to data. Values are not clipped to [-1, 1].

        ``modality`` of the result is ``""``: an autoencoder may serve several modalities, and a latent does not record
        which. The caller sets it.
        """
        return Batch(modality="", data=self.reconstruct(latent))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Return the two terms of the loss (method section 3).

        ``reconstruction`` is the mean L1 error of an element of the data, ``kl`` the weighted divergence of an element
        of the latent: neither grows with the resolution. Both are float32 and averaged over the batch. The draw's noise
        comes from ``generator`` alone.
        """
        return self.reconstruct_with_loss(batch, generator)[1]

    def reconstruct_with_loss(self, batch: Batch, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the reconstruction of `loss`, in the shape of ``batch.data``, and the terms, for further terms."""
        posterior = self.encode(batch)
        reconstructed = self.reconstruct(posterior.draw(generator))
        return reconstructed, {
            "reconstruction": F.l1_loss(reconstructed.float(), batch.data.float()),
            "kl": self._kl_weight * divergence(posterior).mean(),
        }


class PlaneAutoencoder(GridAutoencoder):
    """Images ``batch channel height width``, by diffusers' ``AutoencoderKL``."""

    def __init__(self, config: GridAutoencoderConfig) -> None:
        network = _plane_network(config) if config.init_from is None else _plane_folder(config, config.init_from)
        if config.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        # Convolutions are faster so, on CPUs too; weights are stored in files as ever.
        super().__init__(network.to(memory_format=channels_last), config)
        self._grey = config.channels == 1 and network.config["in_channels"] == 3

    def encode(self, batch: Batch) -> Posterior:
        """See `GridAutoencoder.encode`; a colour network gets one channel on all three."""
        data = batch.data.expand(-1, 3, -1, -1) if self._grey else batch.data
        posterior = self.network.encode(to_channels(data, self._patch)).latent_dist
        return Posterior(mean=posterior.mean, logvar=posterior.logvar)

    def reconstruct(self, latent: Tensor) -> Tensor:
        """See `GridAutoencoder.reconstruct`; the mean over the channels of a colour network."""
        data = to_points(self.network.decode(latent, return_dict=False)[0], self._patch)
        return data.mean(dim=1, keepdim=True) if self._grey else data


class VolumeAutoencoder(GridAutoencoder):
    """Volumes ``batch channel depth height width``, by MONAI's ``AutoencoderKL``."""

    def __init__(self, config: GridAutoencoderConfig) -> None:
        from monai.networks.nets.autoencoderkl import AutoencoderKL

        network = AutoencoderKL(
            spatial_dims=3,
            in_channels=_channels(config),
            out_channels=_channels(config),
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
        mean, sigma = self.network.encode(to_channels(batch.data, self._patch))
        return Posterior(mean=mean, logvar=2 * sigma.log())

    def reconstruct(self, latent: Tensor) -> Tensor:
        """See `GridAutoencoder.reconstruct`."""
        return to_points(self.network.decode(latent), self._patch)


def divergence(posterior: Posterior) -> Tensor:
    """Return the KL divergence from the standard normal, the mean over the elements of a latent; float32 ``batch``."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).mean(1)


def to_channels(data: Tensor, patch: int) -> Tensor:
    """Return data ``batch channel *space`` with the points of every patch, ``patch`` along each axis, as channels.

    In 2-D it is torch's ``pixel_unshuffle``: the channels of a point lie together, then go row by row of the patch.
    """
    points, channels = _PATTERNS[data.ndim - 2]
    return rearrange(data, f"{points} -> {channels}", **_edges(data, patch)) if patch > 1 else data


def to_points(data: Tensor, patch: int) -> Tensor:
    """Return the inverse of `to_channels`."""
    points, channels = _PATTERNS[data.ndim - 2]
    return rearrange(data, f"{channels} -> {points}", **_edges(data, patch)) if patch > 1 else data


def _edges(data: Tensor, patch: int) -> dict[str, int]:
    return dict.fromkeys("pqr"[: data.ndim - 2], patch)


def _channels(config: GridAutoencoderConfig) -> int:
    """Return the channels that the library's network takes."""
    return config.channels * config.patch ** len(config.space)


def _plane_network(config: GridAutoencoderConfig) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(config.widths)
    return AutoencoderKL(
        in_channels=_channels(config),
        out_channels=_channels(config),
        down_block_types=cast(Any, ("DownEncoderBlock2D",) * levels),
        up_block_types=cast(Any, ("UpDecoderBlock2D",) * levels),
        block_out_channels=cast(Any, config.widths),
        layers_per_block=config.num_blocks,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        sample_size=config.space[0] // config.patch,
    )


def _plane_folder(config: GridAutoencoderConfig, folder: str) -> Any:
    """Load the folder's network; `UserError` where a field that other parts rely on differs from it."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    network = load_folder(AutoencoderKL, folder, "vae")
    name, stored, where = type(config).__name__, network.config, f"init_from '{folder}'"
    if (config.channels, stored["in_channels"]) != (1, 3):
        require_equal(name, "channels", config.channels, stored["in_channels"], where)
    require_equal(name, "latent_channels", config.latent_channels, stored["latent_channels"], where)
    require_equal(name, "downsample", config.downsample, 2 ** (len(stored["block_out_channels"]) - 1), where)
    return network
