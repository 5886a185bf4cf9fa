"""Configs of the stock prompt encoders (method section 1); `build` makes the networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.nn.size_checks import CONVOLUTION_STRIDE, require_axes, require_multiples

if TYPE_CHECKING:
    from core.nn.prompts.image import GridPromptEncoder
    from core.nn.prompts.text import TextPromptEncoder


class GridPromptEncoderConfig(PartConfig):
    """A vision transformer from scratch: timm's, or MONAI's in 3-D (method E1).

    ``channels`` and ``space`` ``(H, W)`` or ``(D, H, W)`` of the data, ``patch`` the edge of a patch, or one per axis.
    ``width``, ``depth`` and ``num_heads`` are those of the transformer, whose features are the tokens; ``prompt_width``
    is that of the pooled vector. ``convolutions``: widths of the four stages of a residual network that replaces linear
    patches (timm's hybrid), in 2-D and with a patch of 8. A few hundred studies suffice to train it, unlike linear
    patches. Every channel of a sample is standardised before it. ``regions``: into how many parts every axis is
    divided. The pooled vector is made from the mean of each region (4: of 4 x 4 in 2-D) and the mean of all patches,
    and so encodes where something is. Without regions it is made from the mean of all patches alone.

    Raises `UserError` for sizes that do not fit together.
    """

    channels: PositiveInt
    space: tuple[int, ...]
    patch: PositiveInt | tuple[PositiveInt, ...] = 16
    convolutions: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] | None = None
    regions: Annotated[int, Field(ge=2)] | None = None
    width: PositiveInt = 384
    depth: PositiveInt = 6
    num_heads: PositiveInt = 6
    prompt_width: PositiveInt

    @property
    def cells(self) -> tuple[int, ...]:
        """The number of patches along each axis."""
        return tuple(size // patch for size, patch in zip(self.space, self.patches, strict=True))

    @property
    def patches(self) -> tuple[int, ...]:
        """The edge of a patch along each axis."""
        return (self.patch,) * len(self.space) if isinstance(self.patch, int) else self.patch

    @model_validator(mode="after")
    def _require_sizes(self) -> Self:
        name = type(self).__name__
        require_axes(name, self.space, (2, 3))
        if len(self.patches) != len(self.space):
            raise UserError(
                f"{name}: patch must have one edge, or one per axis of space {self.space}, found {self.patch}"
            )
        for size, patch in zip(self.space, self.patches, strict=True):
            require_multiples(name, "patch", patch, space=size)
        require_multiples(name, "num_heads", self.num_heads, width=self.width)
        if self.regions is not None:
            require_multiples(name, "regions", self.regions, patches=self.cells)
        if self.convolutions is not None and self.patches != (CONVOLUTION_STRIDE, CONVOLUTION_STRIDE):
            raise UserError(
                f"{name}: convolutions cut patches of {CONVOLUTION_STRIDE} in 2-D, found {self.patch} in {self.space}"
            )
        return self

    def build(self) -> GridPromptEncoder:
        """Build the encoder with random weights."""
        from core.nn.prompts.image import GridPromptEncoder

        return GridPromptEncoder(self)


# Width, depth and heads of the papers' vision transformers.
VISION_TRANSFORMERS = {"vit_l_14": (1024, 24, 16), "vit_b_16": (768, 12, 12)}


class PaperPromptEncoderConfig(GridPromptEncoderConfig):
    """The vision transformer of a recipe's paper, from scratch: ``align.image_encoder`` decides its size."""

    def for_recipe(self, switches: Mapping[str, str]) -> Self:
        """Return the settings with width, depth and heads of the recipe's vision transformer."""
        sizes = VISION_TRANSFORMERS.get(switches["align.image_encoder"])
        names = ("width", "depth", "num_heads")
        return self if sizes is None else self.model_copy(update=dict(zip(names, sizes, strict=True)))


class TextPromptEncoderConfig(PartConfig):
    """transformers' BERT from scratch, without a pooler (method E1).

    ``vocabulary`` token ids, at most ``length`` tokens; ``width``, ``depth`` and ``num_heads`` are those of the
    transformer, whose features are the tokens; ``prompt_width`` is that of the pooled vector. ``token_dropout``:
    fraction of the tokens that are hidden in training, so that few reports are not memorised. ``windows``: a longer
    text is read in at most this many windows of ``length`` tokens, each of which begins with the last quarter of the
    previous window; the tokens of all windows are concatenated, and the pooled vector is the mean over all of them.

    Raises `UserError` for sizes that do not fit together.
    """

    vocabulary: PositiveInt
    length: PositiveInt = 77
    width: PositiveInt = 256
    depth: PositiveInt = 4
    num_heads: PositiveInt = 4
    prompt_width: PositiveInt
    token_dropout: float = Field(default=0.0, ge=0, lt=1)
    windows: PositiveInt = 1

    @model_validator(mode="after")
    def _require_sizes(self) -> Self:
        require_multiples(type(self).__name__, "num_heads", self.num_heads, width=self.width)
        return self

    def build(self) -> TextPromptEncoder:
        """Build the encoder with random weights."""
        from core.nn.prompts.text import TextPromptEncoder

        return TextPromptEncoder(self)
