"""The modality ``text``: UTF-8 bytes, a transformer that reads them, and the 0-D UNet (METHOD E11)."""

from __future__ import annotations

from core.api import ByteTokenizerConfig, Modality, Parts
from core.io import TextReaderConfig, TextWriterConfig
from core.nn import TextPromptEncoderConfig, VectorDenoiserConfig

NAME = "text"


def _parts(length: int, encoder: tuple[int, int, int], denoiser: VectorDenoiserConfig) -> Parts:
    """``encoder``: width, depth and heads of the transformer that reads the prompt."""
    tokenizer = ByteTokenizerConfig(length=length)
    width, depth, num_heads = encoder
    return Parts(
        data=tokenizer.spec,
        reader=TextReaderConfig(modality=NAME),
        preprocess=tokenizer,
        prompt=TextPromptEncoderConfig(
            vocabulary=tokenizer.spec.vocabulary or 0,
            length=length,
            width=width,
            depth=depth,
            num_heads=num_heads,
            prompt_width=denoiser.prompt_width,
        ),
        denoiser=denoiser,
        writer=TextWriterConfig(),
    )


_TINY = _parts(
    256,
    (128, 3, 4),
    VectorDenoiserConfig(
        width=64,
        model_width=32,
        prompt_width=128,
        multipliers=(1, 2),
        attention=(True, True),
        num_blocks=1,
        num_heads=4,
        norm_groups=8,
    ),
)
_SMALL = _parts(
    512,
    (384, 6, 6),
    VectorDenoiserConfig(
        width=256, model_width=128, prompt_width=384, multipliers=(1, 2, 4), attention=(True, True, True)
    ),
)
# Versatile Diffusion's text UNet as published, 1,708.85 M parameters.
_PAPER = _parts(512, (768, 12, 12), VectorDenoiserConfig())

TEXT = Modality(
    name=NAME,
    title="Report, findings or caption",
    # Text has no volumes: tiny3d is tiny, so that text can meet them.
    presets={"tiny": _TINY, "tiny3d": _TINY, "small": _SMALL, "paper": _PAPER},
)
