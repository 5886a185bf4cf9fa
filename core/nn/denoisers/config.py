"""Configs of the stock denoisers; the networks are made in `build` (method E10, E11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from pydantic import PositiveInt, model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.nn.size_checks import require_axes, require_multiples, require_same_length

if TYPE_CHECKING:
    from core.nn.denoisers.sites import SitedDenoiser


class GridDenoiserConfig(PartConfig):
    """A UNet for latents on a grid: diffusers' ``UNet2DConditionModel`` or, in 3-D, MONAI's ``DiffusionModelUNet``.

    ``channels`` and ``space`` ``(H, W)`` or ``(D, H, W)`` of the latent; every axis a multiple of
    2**(levels - 1). ``widths``, ``attention`` and ``head_width`` (one number, or one per level) go by level; the
    middle block always attends. ``prompt_width`` features of a prompt token. ``pooled_width``: the network also
    takes the pooled vector, through an MLP added to the time embedding, and requires one. ``size_width`` (2-D): the
    MLP also takes ``size_ids``, each as so many sines and cosines (Stable Diffusion XL: 256).

    ``init_from`` (2-D): a local diffusers folder, or a pipeline folder with ``unet/`` in it. Its ``config.json``
    decides widths, blocks, heads and groups instead of the fields here; ``channels``, ``prompt_width`` and
    ``pooled_width`` must agree with it. A folder of SDXL's kind takes ``pooled_width`` and ``size_ids``: original
    height and width, top and left of the crop, target height and width in pixels (8 pixels per latent when left out).

    Raises `UserError` for sizes that do not fit together.
    """

    channels: PositiveInt
    space: tuple[int, ...]
    widths: tuple[PositiveInt, ...] = (64, 128, 256)
    attention: tuple[bool, ...] = (False, True, True)
    num_blocks: PositiveInt = 2
    head_width: PositiveInt | tuple[PositiveInt, ...] = 32
    prompt_width: PositiveInt
    pooled_width: PositiveInt | None = None
    norm_groups: PositiveInt = 32
    gradient_checkpointing: bool = False
    init_from: str | None = None
    size_ids: tuple[int, int, int, int, int, int] | None = None
    size_width: PositiveInt | None = None

    def for_recipe(self, switches: Mapping[str, str]) -> Self:
        """Return the settings with the inputs of the form ``tokens_pooled_size``, where the recipe has it (MediSyn)."""
        if switches["prompt.form"] != "tokens_pooled_size" or self.init_from is not None:
            return self
        size_width = self.widths[0] if len(self.space) == 2 else None
        pooled_width = self.pooled_width or self.prompt_width
        return self.model_copy(update={"pooled_width": pooled_width, "size_width": size_width})

    @property
    def head_widths(self) -> tuple[int, ...]:
        """Features per attention head, by level."""
        width = self.head_width
        return (width,) * len(self.widths) if isinstance(width, int) else width

    @model_validator(mode="after")
    def _require_sizes(self) -> Self:
        name = type(self).__name__
        require_axes(name, self.space, (2, 3))
        if self.init_from is not None:
            if len(self.space) == 3:
                raise UserError(f"{name}: init_from loads 2-D networks only, found space {self.space}; leave it out")
            return self
        if not self.widths:
            raise UserError(f"{name}: widths must name at least one level, found none")
        require_same_length(name, widths=self.widths, attention=self.attention, head_width=self.head_widths)
        require_multiples(
            name, f"2**(levels - 1) with {len(self.widths)} levels", 2 ** (len(self.widths) - 1), space=self.space
        )
        require_multiples(name, "norm_groups", self.norm_groups, widths=self.widths)
        require_multiples(name, "sines and cosines of the timestep", 2, widths=self.widths[:1])
        self._require_size_inputs(name)
        attends = (*self.attention[:-1], True)  # the middle block attends at the last level's width
        for width, head_width, attending in zip(self.widths, self.head_widths, attends, strict=True):
            if attending:
                require_multiples(name, "head_width", head_width, widths=width)
        return self

    def _require_size_inputs(self, name: str) -> None:
        if self.size_width is None:
            return
        require_multiples(name, "sines and cosines of a size", 2, size_width=(self.size_width,))
        if self.pooled_width is None or len(self.space) == 3:
            raise UserError(
                f"{name}: size_width needs pooled_width and a latent of two axes, found pooled_width"
                f" {self.pooled_width} and space {self.space}; leave size_width out"
            )

    def build(self) -> SitedDenoiser:
        """The denoiser, with random weights or those of ``init_from``. Raises `UserError` for a wrong folder."""
        if len(self.space) == 2:
            from core.nn.denoisers.unet2d import PlaneDenoiser

            return PlaneDenoiser(self)
        from core.nn.denoisers.unet3d import VolumeDenoiser

        return VolumeDenoiser(self)


class VectorDenoiserConfig(PartConfig):
    """The 0-D UNet of Versatile Diffusion for a latent without space (method E11): 1,708.85 M parameters as it is.

    ``width`` features of the latent. Level ``k`` is ``model_width * multipliers[k]`` wide, at four positions.
    ``attention`` goes by level; the middle block always attends. ``pooled_width``: the network also takes the pooled
    vector, through an MLP added to the time embedding, and requires one. Raises `UserError` for sizes that do not fit.
    """

    width: PositiveInt = 768
    model_width: PositiveInt = 320
    prompt_width: PositiveInt = 768
    pooled_width: PositiveInt | None = None
    multipliers: tuple[PositiveInt, ...] = (1, 2, 4, 4)
    attention: tuple[bool, ...] = (True, True, True, False)
    num_blocks: PositiveInt = 2
    num_heads: PositiveInt = 8
    norm_groups: PositiveInt = 32
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _require_sizes(self) -> Self:
        name = type(self).__name__
        if not self.multipliers:
            raise UserError(f"{name}: multipliers must name at least one level, found none")
        require_same_length(name, multipliers=self.multipliers, attention=self.attention)
        widths = [self.model_width * multiplier for multiplier in self.multipliers]
        require_multiples(name, "norm_groups", self.norm_groups, widths=widths)
        require_multiples(name, "num_heads", self.num_heads, widths=widths)
        require_multiples(name, "sines and cosines of the timestep", 2, model_width=self.model_width)
        return self

    def build(self) -> SitedDenoiser:
        """The denoiser, with random weights."""
        from core.nn.denoisers.unet0d import VectorDenoiser

        return VectorDenoiser(self)
