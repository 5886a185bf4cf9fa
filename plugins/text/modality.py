"""Define the modality ``text``: byte-pair tokens, a BERT prompt encoder, Optimus (method E8) and a 0-D UNet (E11)."""

from __future__ import annotations

from core.api import Modality, Parts
from core.io import DicomReportWriterConfig, TextReaderConfig, TextWriterConfig
from core.nn import Decoding, TextAutoencoderConfig, VectorDenoiserConfig
from plugins.text.preprocess import ReportTokenizerConfig
from plugins.text.prompt import ReportPromptEncoderConfig

NAME = "text"
# Trained on synthetic chest reports, see the README; another one replaces it by `text.preprocess.path`.
_SHIPPED = "plugins.text:tokenizer.json"


def _parts(
    tokenizer: ReportTokenizerConfig,
    encoder: tuple[int, int, int],
    autoencoder: TextAutoencoderConfig,
    denoiser: VectorDenoiserConfig,
    token_dropout: float = 0.0,
) -> Parts:
    """Return the parts of a preset; ``encoder``: width, depth and heads of the transformer that reads the prompt."""
    width, depth, num_heads = encoder
    return Parts(
        data=tokenizer.spec,
        reader=TextReaderConfig(modality=NAME),
        preprocess=tokenizer,
        prompt=ReportPromptEncoderConfig(
            tokenizer=tokenizer,
            vocabulary=tokenizer.vocabulary,
            length=tokenizer.length,
            width=width,
            depth=depth,
            num_heads=num_heads,
            prompt_width=denoiser.prompt_width,
            token_dropout=token_dropout,
        ),
        autoencoder=autoencoder,
        denoiser=denoiser,
        writer=TextWriterConfig(),
        exports={"dicom": DicomReportWriterConfig(series_number=101)},
    )


_TINY_AUTOENCODER = TextAutoencoderConfig(
    vocabulary=1024,
    length=128,
    latent_width=64,
    width=128,
    depth=1,  # decision 20, as what follows
    num_heads=4,
    pool="mean",
    beta=0.01,
    latent_noise=0.4,
    latent_dropout=0.3,
    language_share=0.17,
    decoding=Decoding(beams=4, language=0.5),
    decoding_generated=Decoding(beams=8, language=3.0),
)
_TINY = _parts(
    ReportTokenizerConfig(length=128, path=_SHIPPED, vocabulary=1024),
    (128, 3, 4),
    _TINY_AUTOENCODER,
    VectorDenoiserConfig(
        width=64,
        model_width=64,
        prompt_width=128,
        pooled_width=128,
        multipliers=(1, 1),
        attention=(True, True),
        num_blocks=1,
        num_heads=4,
        norm_groups=8,
    ),
    token_dropout=0.2,
)
_SMALL = _parts(
    ReportTokenizerConfig(length=256, path=_SHIPPED, vocabulary=8192),
    (384, 6, 6),
    TextAutoencoderConfig(
        vocabulary=8192, length=256, latent_width=256, width=384, depth=6, num_heads=6, pool="mean", beta=0.02
    ),
    VectorDenoiserConfig(
        width=256,
        model_width=128,
        prompt_width=384,
        pooled_width=384,
        multipliers=(1, 2, 4),
        attention=(True, True, True),
    ),
)
# BERT-base and GPT-2 in size (their folders by `encoder_from`, `decoder_from`; 50,260 ids are GPT-2's and our three),
# and Versatile Diffusion's text UNet as published, 1,708.85 M parameters.
_PAPER = _parts(
    ReportTokenizerConfig(length=512, path=_SHIPPED, vocabulary=50_260),
    (768, 12, 12),
    TextAutoencoderConfig(
        vocabulary=50_260,
        length=512,
        latent_width=768,
        width=768,
        depth=12,
        num_heads=12,
        beta=1.0,
        cycle=4000,
        free_bits=0.5,
    ),
    VectorDenoiserConfig(),
)

TEXT = Modality(
    name=NAME,
    title="Report, findings or caption",
    presets={"tiny": _TINY, "tiny3d": _TINY, "small": _SMALL, "paper": _PAPER},
)
