"""Both views: the same networks, one shared image encoder (MedCoDi-M) and the common image autoencoder."""

from __future__ import annotations

from typing import NamedTuple

from core.api import Modality, Parts, RangePreprocessConfig, Shared, ViewsConfig
from core.io import ImageReaderConfig, ImageWriterConfig
from core.nn import GridAutoencoderConfig, GridDenoiserConfig, GridPromptEncoderConfig

_FIELD_MM = 430.0  # side of a 43 cm detector
_RANGE = (0.0, 1.0)  # share of the largest number of the bit depth (MedCoDi-M 3.1)


class _Networks(NamedTuple):
    autoencoder: GridAutoencoderConfig
    prompt: GridPromptEncoderConfig
    denoiser: GridDenoiserConfig


# The autoencoder is shared with every imaging plugin under one key, so it must be equal in all of them.
_TINY = _Networks(
    GridAutoencoderConfig(channels=1, space=(64, 64), downsample=4, widths=(16, 32, 64), num_blocks=1, norm_groups=8),
    GridPromptEncoderConfig(channels=1, space=(64, 64), patch=8, width=128, depth=3, num_heads=4, prompt_width=128),
    GridDenoiserConfig(
        channels=4,
        space=(16, 16),
        widths=(48, 96),
        attention=(False, True),
        num_blocks=1,
        head_width=24,
        prompt_width=128,
        norm_groups=16,
    ),
)
_SMALL = _Networks(
    GridAutoencoderConfig(channels=1, space=(256, 256)),
    GridPromptEncoderConfig(channels=1, space=(256, 256), prompt_width=384),
    GridDenoiserConfig(
        channels=4, space=(32, 32), widths=(128, 256, 384), attention=(True, True, True), prompt_width=384
    ),
)
_PAPER = _Networks(
    # Stable Diffusion 1.5, autoencoder and denoiser as published.
    GridAutoencoderConfig(channels=1, space=(512, 512), widths=(128, 256, 512, 512)),
    # ViT-L; a patch of 32 gives 512 pixels the 256 tokens that ViT-L/14 has at 224.
    GridPromptEncoderConfig(
        channels=1, space=(512, 512), patch=32, width=1024, depth=24, num_heads=16, prompt_width=768
    ),
    GridDenoiserConfig(
        channels=4,
        space=(64, 64),
        widths=(320, 640, 1280, 1280),
        attention=(True, True, True, False),
        head_width=(40, 80, 160, 160),
        prompt_width=768,
    ),
)


def _parts(modality: str, orientation: str, networks: _Networks) -> Parts:
    space = networks.autoencoder.space
    preprocess = RangePreprocessConfig(
        space=space,
        spacing_mm=tuple(_FIELD_MM / size for size in space),
        orientation=orientation,
        low=_RANGE[0],
        high=_RANGE[1],
    )
    return Parts(
        data=preprocess.spec,
        reader=ImageReaderConfig(modality=modality, orientation=orientation, value_range=_RANGE),
        preprocess=preprocess,
        augment=ViewsConfig(),
        prompt=Shared("xray.prompt", networks.prompt),
        autoencoder=Shared("image.autoencoder", networks.autoencoder),
        denoiser=networks.denoiser,
        writer=ImageWriterConfig(value_range=_RANGE),
    )


def _view(name: str, title: str, orientation: str) -> Modality:
    # A projection stays a projection beside volumes: tiny3d is tiny.
    sizes = {"tiny": _TINY, "tiny3d": _TINY, "small": _SMALL, "paper": _PAPER}
    presets = {preset: _parts(name, orientation, networks) for preset, networks in sizes.items()}
    return Modality(name=name, title=title, presets=presets)


# Rows run inferior. Columns run to the patient's left in a frontal view as displayed, and posterior in a lateral one.
FRONTAL = _view("xray_frontal", "Chest X-ray, frontal", "IL")
LATERAL = _view("xray_lateral", "Chest X-ray, lateral", "IP")
