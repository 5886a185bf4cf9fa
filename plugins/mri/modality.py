"""MRI: one acquisition of unspecified contrast, and a modality for each known contrast."""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.api import Modality, Parts, PercentilePreprocessConfig, Shared, ViewsConfig
from core.io import ImageReaderConfig, NiftiReaderConfig, NiftiWriterConfig, ScanReaderConfig
from core.nn import GridAutoencoderConfig, GridDenoiserConfig, GridPromptEncoderConfig

_GENERATED_RANGE = (0.0, 1000.0)  # a.u. of images that no scanner scaled
_FIELD_MM = 240.0


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
_TINY_3D = _Networks(
    GridAutoencoderConfig(
        channels=1, space=(32, 32, 32), downsample=4, widths=(8, 16, 32), num_blocks=1, norm_groups=8
    ),
    GridPromptEncoderConfig(channels=1, space=(32, 32, 32), patch=8, width=128, depth=3, num_heads=4, prompt_width=128),
    GridDenoiserConfig(
        channels=4,
        space=(8, 8, 8),
        widths=(32, 64),
        attention=(False, True),
        num_blocks=1,
        head_width=16,
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


def _parts(modality: str, networks: _Networks) -> Parts:
    space = networks.autoencoder.space
    dims: Literal[2, 3] = 2 if len(space) == 2 else 3
    preprocess = PercentilePreprocessConfig(
        space=space,
        spacing_mm=tuple(_FIELD_MM / size for size in space),
        # Axial rows run posterior and columns to the patient's left, as displayed; slices run superior.
        orientation="PL" if dims == 2 else "SPL",
        value_range=_GENERATED_RANGE,
    )
    # Units are arbitrary anyway, so an exported slice is as good as a NIfTI one.
    picture = ImageReaderConfig(modality=modality, orientation="PL") if dims == 2 else None
    return Parts(
        data=preprocess.spec,
        reader=ScanReaderConfig(nifti=NiftiReaderConfig(modality=modality, dims=dims), image=picture),
        preprocess=preprocess,
        augment=ViewsConfig(bias_field=0.2),
        prompt=networks.prompt,
        autoencoder=Shared("image.autoencoder" if dims == 2 else "volume.autoencoder", networks.autoencoder),
        denoiser=networks.denoiser,
        writer=NiftiWriterConfig(),
    )


_SIZES = {"tiny": _TINY, "tiny3d": _TINY_3D, "small": _SMALL, "paper": _PAPER}
_TITLES = {
    "mri": "MRI, contrast not specified",
    "mri_t1": "MRI, T1-weighted",
    "mri_t2": "MRI, T2-weighted",
    "mri_pd": "MRI, proton density",
    "mri_flair": "MRI, FLAIR",
}
MODALITIES = tuple(
    Modality(name=name, title=title, presets={preset: _parts(name, sizes) for preset, sizes in _SIZES.items()})
    for name, title in _TITLES.items()
)
