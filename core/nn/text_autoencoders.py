"""Config of the stock autoencoder for text (METHOD E8); the network is made in `build`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from core.contract.modality import PartConfig
from core.errors import UserError
from core.nn.size_checks import divides
from core.types import LatentSpec

if TYPE_CHECKING:
    from core.nn.text_autoencoder import TextAutoencoder


class TextAutoencoderConfig(PartConfig):
    """Optimus: a BERT that encodes a text to one vector, a GPT-2 that writes it from that vector (METHOD E8).

    ``vocabulary`` token ids (0 padding, 1 begin, 2 end), at most ``length`` of them; ``latent_width`` features of the
    latent. ``width``, ``depth`` and ``num_heads`` are the encoder's; those of the decoder, left out, are the same.
    ``pool``: the latent is read from the ``first`` token, as published, or from the ``mean`` of all, which learns
    from scratch many times faster.

    ``beta`` weighs the divergence; with ``cycle`` above 0 it is 0 for half of every ``cycle`` training steps, climbs
    for a quarter and stays. Up to ``free_bits`` nats per latent feature cost nothing. ``word_dropout`` is the share
    of the decoder's input tokens that are hidden in training, so that it must ask the latent.

    ``encoder_from`` and ``decoder_from``: local folders of a BERT and a GPT-2 (safetensors). Their sizes must agree
    with the fields here; see `core.nn.pretrained` for what is taken from them.

    Raises `UserError` for sizes that do not fit together.
    """

    vocabulary: Annotated[int, Field(ge=4)]
    length: Annotated[int, Field(ge=3)] = 128
    latent_width: PositiveInt = 768
    width: PositiveInt = 256
    depth: PositiveInt = 4
    num_heads: PositiveInt = 4
    pool: Literal["first", "mean"] = "first"
    decoder_width: PositiveInt | None = None
    decoder_depth: PositiveInt | None = None
    decoder_heads: PositiveInt | None = None
    beta: NonNegativeFloat = 1.0
    cycle: NonNegativeInt = 0
    free_bits: NonNegativeFloat = 0.1
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    encoder_from: str | None = None
    decoder_from: str | None = None

    @property
    def spec(self) -> LatentSpec:
        """Shape of the latent, a vector; scale and shift are measured later."""
        return LatentSpec(channels=self.latent_width, space=())

    @property
    def decoder_sizes(self) -> tuple[int, int, int]:
        """Width, depth and heads of the decoder."""
        return (
            self.decoder_width or self.width,
            self.decoder_depth or self.depth,
            self.decoder_heads or self.num_heads,
        )

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        name = type(self).__name__
        divides(name, "num_heads", self.num_heads, width=self.width)
        width, _, num_heads = self.decoder_sizes
        divides(name, "decoder_heads", num_heads, decoder_width=width)
        if 0 < self.cycle < 4:
            raise UserError(f"{name}: cycle must be 0 (beta is constant) or at least 4 steps, found {self.cycle}")
        return self

    def build(self) -> TextAutoencoder:
        """The autoencoder, with random weights or those of the folders. Raises `UserError` for a wrong folder."""
        from core.nn.text_autoencoder import TextAutoencoder

        return TextAutoencoder(self)
