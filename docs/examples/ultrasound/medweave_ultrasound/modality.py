"""The modality: stock parts for reading, preparing and writing pictures, stock networks, one augmenter of our own."""

from __future__ import annotations

from core.api import Modality, Parts, RangePreprocessConfig
from core.io import ImageReaderConfig, ImageWriterConfig
from core.nn import GridAutoencoderConfig, GridDenoiserConfig, GridPromptEncoderConfig

from medweave_ultrasound.augment import SpeckleViewsConfig

NAME = "ultrasound"
# Rows run away from the probe, posterior in a supine patient. BUSI does not say how the probe was held: columns are
# taken to run left.
ORIENTATION = "PL"
FIELD_MM = 40.0
RANGE = (0.0, 1.0)


def _parts(autoencoder: GridAutoencoderConfig, prompt: GridPromptEncoderConfig, denoiser: GridDenoiserConfig) -> Parts:
    """All parts at one size; what a sample looks like follows from the preprocessor."""
    preprocess = RangePreprocessConfig(
        space=autoencoder.space,
        spacing_mm=tuple(FIELD_MM / size for size in autoencoder.space),
        orientation=ORIENTATION,
        low=RANGE[0],
        high=RANGE[1],
    )
    return Parts(
        data=preprocess.spec,
        reader=ImageReaderConfig(modality=NAME, orientation=ORIENTATION, value_range=RANGE),
        preprocess=preprocess,
        augment=SpeckleViewsConfig(),
        prompt=prompt,
        autoencoder=autoencoder,
        denoiser=denoiser,
        writer=ImageWriterConfig(value_range=RANGE, bits=8),
    )


# The width of prompts belongs to the preset: modalities that are to meet need the same (128, 384, 768).
TINY = _parts(
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
SMALL = _parts(
    GridAutoencoderConfig(channels=1, space=(256, 256)),
    GridPromptEncoderConfig(channels=1, space=(256, 256), prompt_width=384),
    GridDenoiserConfig(channels=4, space=(32, 32), widths=(128, 256, 384), attention=(True,) * 3, prompt_width=384),
)

ULTRASOUND = Modality(name=NAME, title="Breast ultrasound", presets={"tiny": TINY, "small": SMALL})
