"""Sizes of the stock image networks at each preset, so that independent imaging plugins agree.

Modalities that share an autoencoder need equal configs, and modalities of one flow need one prompt width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.contract.modality import Shared
from core.errors import unknown_name
from core.nn.autoencoders.config import GridAutoencoderConfig
from core.nn.denoisers.config import GridDenoiserConfig
from core.nn.prompts.config import GridPromptEncoderConfig, PaperPromptEncoderConfig
from core.types import Space

PROMPT_WIDTHS: Mapping[str, int] = {"tiny": 128, "tiny3d": 128, "small": 384, "paper": 768}


@dataclass(frozen=True)
class GridNetworks:
    """The three networks of an imaging modality, in matching sizes; ``autoencoder`` is meant to be shared."""

    autoencoder: Shared
    prompt: GridPromptEncoderConfig
    denoiser: GridDenoiserConfig

    @property
    def space(self) -> Space:
        """The spatial shape of canonical samples."""
        config = self.autoencoder.config
        return config.space if isinstance(config, GridAutoencoderConfig) else ()

    def spacing_mm(self, field_mm: float) -> tuple[float, ...]:
        """Return the spacing per axis, mm, of canonical samples whose field of view has sides of ``field_mm``."""
        return tuple(field_mm / size for size in self.space)


def grid_networks(preset: str, channels: int = 1) -> GridNetworks:
    """Return the stock networks at a preset: for slices and projections, or for small volumes at ``tiny3d``.

    Modalities with the same number of channels share one autoencoder. `UserError` for an unknown preset.
    """
    makers = {"tiny": _tiny, "tiny3d": _tiny3d, "small": _small, "paper": _paper}
    if preset not in makers:
        raise unknown_name("stock size", preset, makers)
    autoencoder, prompt, denoiser = makers[preset](channels, PROMPT_WIDTHS[preset])
    kind = "volume" if len(autoencoder.space) == 3 else "image"
    colours = "" if channels == 1 else f"{channels}"
    return GridNetworks(Shared(f"{kind}{colours}.autoencoder", autoencoder), prompt, denoiser)


_Networks = tuple[GridAutoencoderConfig, GridPromptEncoderConfig, GridDenoiserConfig]


def _tiny(channels: int, prompt_width: int) -> _Networks:
    """Return networks for 64 pixels: minutes of training on two CPU cores."""
    return _reduced(channels, prompt_width, space=(64, 64), widths=(32, 64), patch=2, denoiser_widths=(32, 64))


def _tiny3d(channels: int, prompt_width: int) -> _Networks:
    """Return networks for volumes of 32 voxels a side on two CPU cores."""
    return _reduced(channels, prompt_width, space=(32, 32, 32), widths=(8, 16, 32), patch=1, denoiser_widths=(32, 64))


def _reduced(
    channels: int,
    prompt_width: int,
    space: Space,
    widths: tuple[int, ...],
    patch: int,
    denoiser_widths: tuple[int, int],
) -> _Networks:
    """Return networks of few blocks: a latent of 4 channels at a quarter of ``space``, attention at the lower level."""
    return (
        GridAutoencoderConfig(
            channels=channels, space=space, downsample=4, widths=widths, patch=patch, num_blocks=1, norm_groups=8
        ),
        GridPromptEncoderConfig(
            channels=channels,
            space=space,
            patch=8,
            convolutions=(24, 48, 72, 96) if len(space) == 2 else None,
            regions=4 if len(space) == 2 else None,
            width=128,
            depth=1 if len(space) == 2 else 3,
            num_heads=4,
            prompt_width=prompt_width,
        ),
        GridDenoiserConfig(
            channels=4,
            space=tuple(size // 4 for size in space),
            widths=denoiser_widths,
            attention=(False, True),
            num_blocks=1,
            head_width=denoiser_widths[0] // 2,
            prompt_width=prompt_width,
            pooled_width=prompt_width,
            norm_groups=16,
        ),
    )


def _small(channels: int, prompt_width: int) -> _Networks:
    """Return networks for 256 pixels: trained from scratch on one GPU in hours."""
    space = (256, 256)
    return (
        GridAutoencoderConfig(channels=channels, space=space),
        GridPromptEncoderConfig(channels=channels, space=space, prompt_width=prompt_width),
        GridDenoiserConfig(
            channels=4,
            space=(32, 32),
            widths=(128, 256, 384),
            attention=(True, True, True),
            prompt_width=prompt_width,
            pooled_width=prompt_width,
        ),
    )


def _paper(channels: int, prompt_width: int) -> _Networks:
    """Return networks for 512 pixels: autoencoder and denoiser of Stable Diffusion 1.5 as published, and a ViT."""
    space = (512, 512)
    return (
        GridAutoencoderConfig(channels=channels, space=space, widths=(128, 256, 512, 512)),
        # A patch of 32 gives 512 pixels the 256 tokens that ViT-L/14 has at 224; ViT-B/16 has 196.
        PaperPromptEncoderConfig(
            channels=channels, space=space, patch=32, width=1024, depth=24, num_heads=16, prompt_width=prompt_width
        ),
        GridDenoiserConfig(
            channels=4,
            space=(64, 64),
            widths=(320, 640, 1280, 1280),
            attention=(True, True, True, False),
            head_width=(40, 80, 160, 160),
            # As published, without a pooled vector: a folder of Stable Diffusion 1.5 loads by `init_from`.
            prompt_width=prompt_width,
        ),
    )
