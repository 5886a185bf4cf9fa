"""Configs of the stock autoencoders for images and volumes (method E7) and for text (method E8)."""

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
from core.nn.autoencoders.decoding import Decoding
from core.nn.size_checks import require_axes, require_multiples
from core.types import LatentSpec

if TYPE_CHECKING:
    from core.nn.autoencoders.kl import GridAutoencoder
    from core.nn.autoencoders.optimus import TextAutoencoder


class GridAutoencoderConfig(PartConfig):
    """A KL autoencoder: diffusers' ``AutoencoderKL`` or, in 3-D, MONAI's (method section 3).

    ``channels`` and ``space`` ``(H, W)`` or ``(D, H, W)`` of the data. ``downsample``, a power of two, divides every
    axis; ``widths`` has one item more than its logarithm. With ``patch``, a power of two, the points of every patch of
    that edge become channels before the first convolution, and points again after the last one: the network has that
    many halvings fewer, and no convolution on the finest grids. ``kl_weight`` is the weight of the divergence, a mean
    over the elements of the latent, beside a mean error over those of the data. ``gradient_checkpointing`` keeps fewer
    activations in training.

    ``init_from`` (2-D): a local diffusers folder, or a pipeline folder with ``vae/`` in it. Its ``config.json``
    decides widths, blocks and groups; ``channels`` (a colour network gets one channel as grey), ``latent_channels`` and
    ``downsample`` must agree with it.

    Raises `UserError` for sizes that do not fit together.
    """

    channels: PositiveInt
    space: tuple[int, ...]
    latent_channels: PositiveInt = 4
    downsample: PositiveInt = 8
    patch: PositiveInt = 1
    widths: tuple[PositiveInt, ...] = (64, 128, 256, 256)
    num_blocks: PositiveInt = 2
    kl_weight: NonNegativeFloat = 1e-6
    norm_groups: PositiveInt = 32
    gradient_checkpointing: bool = False
    init_from: str | None = None

    @property
    def spec(self) -> LatentSpec:
        """The shape of the latent; scale and shift are measured later."""
        space = tuple(size // self.downsample for size in self.space)
        return LatentSpec(channels=self.latent_channels, space=space, downsample=self.downsample)

    @model_validator(mode="after")
    def _require_sizes(self) -> Self:
        name = type(self).__name__
        require_axes(name, self.space, (2, 3))
        if self.downsample & (self.downsample - 1):
            raise UserError(f"{name}: downsample must be a power of two (1, 2, 4, 8, ...), found {self.downsample}")
        require_multiples(name, "downsample", self.downsample, space=self.space)
        if self.init_from is not None:
            if len(self.space) == 3:
                raise UserError(f"{name}: init_from loads 2-D networks only, found space {self.space}; leave it out")
            if self.patch > 1:
                raise UserError(f"{name}: the network of init_from takes no patches, found patch {self.patch}")
            return self
        if self.patch & (self.patch - 1) or self.downsample % self.patch:
            raise UserError(
                f"{name}: patch must be a power of two and at most downsample {self.downsample}, found {self.patch}"
            )
        expected = (self.downsample // self.patch).bit_length()
        if len(self.widths) != expected:
            raise UserError(
                f"{name}: widths needs {expected} items at downsample {self.downsample} and patch {self.patch}, found"
                f" {self.widths}"
            )
        require_multiples(name, "norm_groups", self.norm_groups, widths=self.widths)
        return self

    def build(self) -> GridAutoencoder:
        """Build the autoencoder with random weights or those of ``init_from``; `UserError` for a wrong folder."""
        if len(self.space) == 2:
            from core.nn.autoencoders.kl import PlaneAutoencoder

            return PlaneAutoencoder(self)
        from core.nn.autoencoders.kl import VolumeAutoencoder

        return VolumeAutoencoder(self)


class TextAutoencoderConfig(PartConfig):
    """Optimus: a BERT that encodes a text to one vector, a GPT-2 that writes it from that vector (method E8).

    ``vocabulary`` token ids (0 padding, 1 begin, 2 end), at most ``length`` of them; ``latent_width`` features of the
    latent. ``width``, ``depth`` and ``num_heads`` are the encoder's; those of the decoder, left out, are the same.
    ``pool``: the latent is computed from the ``first`` token, as published, or from the ``mean`` of all, which trains
    from scratch many times faster.

    ``beta`` weighs the divergence; with ``cycle`` above 0 it is 0 for half of every ``cycle`` training steps, rises for
    a quarter and stays. Up to ``free_bits`` nats per latent feature are free. ``word_dropout`` is the fraction
    of the decoder's input tokens that are hidden in training, so that it must rely on the latent. ``latent_noise``: in
    training the decoder reads latents with Gaussian errors, as a diffusion leaves them (`noisy_latents`).
    ``latent_dropout`` is the fraction of training texts that the decoder writes without latent (zeros), so that it
    knows which sentences go together; it falls to that from 1 over the first part ``language_share`` of the training
    steps (`latent_dropout`).

    ``decoding``: how a text is written where the caller does not say. ``decoding_generated``: the same of latents that
    were generated, which lie between those of texts.

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
    latent_noise: NonNegativeFloat = 0.0
    latent_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    language_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    decoding: Decoding = Decoding()
    decoding_generated: Decoding | None = None
    encoder_from: str | None = None
    decoder_from: str | None = None

    @property
    def spec(self) -> LatentSpec:
        """The shape of the latent, a vector; scale and shift are measured later."""
        return LatentSpec(channels=self.latent_width, space=())

    @property
    def decoder_sizes(self) -> tuple[int, int, int]:
        """Width, depth and number of heads of the decoder."""
        return (
            self.decoder_width or self.width,
            self.decoder_depth or self.depth,
            self.decoder_heads or self.num_heads,
        )

    @model_validator(mode="after")
    def _require_sizes(self) -> Self:
        name = type(self).__name__
        require_multiples(name, "num_heads", self.num_heads, width=self.width)
        width, _, num_heads = self.decoder_sizes
        require_multiples(name, "decoder_heads", num_heads, decoder_width=width)
        if 0 < self.cycle < 4:
            raise UserError(f"{name}: cycle must be 0 (beta is constant) or at least 4 steps, found {self.cycle}")
        self.require_trained_for(self.decoding)
        self.require_trained_for(self.decoding_generated or self.decoding)
        return self

    def require_trained_for(self, how: Decoding) -> None:
        """Raise `UserError` for a decoding that needs what the decoder does not learn."""
        if how.language and not self.latent_dropout:
            raise UserError(
                f"Decoding: language {how.language:g} needs a decoder that was trained without latents too; set"
                " latent_dropout above 0 and train again, or language to 0"
            )

    def build(self) -> TextAutoencoder:
        """Build the autoencoder with random weights or those of the folders; `UserError` for a wrong folder."""
        from core.nn.autoencoders.optimus import TextAutoencoder

        return TextAutoencoder(self)
