"""Config of the stock autoencoder for images and volumes (METHOD E7); the network is made in `build`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.nn.size_checks import divides, has_axes
from core.types import LatentSpec

if TYPE_CHECKING:
    from core.nn.grid_autoencoder import GridAutoencoder


class GridAutoencoderConfig(PartConfig):
    """A KL autoencoder: diffusers' ``AutoencoderKL`` or, in 3-D, MONAI's (METHOD section 3).

    ``channels`` and ``space`` ``(H, W)`` or ``(D, H, W)`` of the data. ``downsample``, a power of two, divides every
    axis; ``widths`` has one item more than its logarithm. ``kl_weight`` is the weight of the divergence of every
    latent element, summed over a sample. ``gradient_checkpointing`` keeps fewer activations in training.

    ``init_from`` (2-D): a local diffusers folder, or a pipeline folder with ``vae/`` in it. Its ``config.json``
    decides widths, blocks and groups; ``channels`` (1 is shown to a colour network as grey), ``latent_channels`` and
    ``downsample`` must agree with it.

    Raises `UserError` for sizes that do not fit together.
    """

    channels: PositiveInt
    space: tuple[int, ...]
    latent_channels: PositiveInt = 4
    downsample: PositiveInt = 8
    widths: tuple[PositiveInt, ...] = (64, 128, 256, 256)
    num_blocks: PositiveInt = 2
    kl_weight: NonNegativeFloat = 1e-6
    norm_groups: PositiveInt = 32
    gradient_checkpointing: bool = False
    init_from: str | None = None

    @property
    def spec(self) -> LatentSpec:
        """Shape of the latent; scale and shift are measured later."""
        space = tuple(size // self.downsample for size in self.space)
        return LatentSpec(channels=self.latent_channels, space=space, downsample=self.downsample)

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        name = type(self).__name__
        has_axes(name, self.space, (2, 3))
        if self.downsample & (self.downsample - 1):
            raise UserError(f"{name}: downsample must be a power of two (1, 2, 4, 8, ...), found {self.downsample}")
        divides(name, "downsample", self.downsample, space=self.space)
        if self.init_from is not None:
            if len(self.space) == 3:
                raise UserError(f"{name}: init_from loads 2-D networks only, found space {self.space}; leave it out")
            return self
        expected = self.downsample.bit_length()
        if len(self.widths) != expected:
            raise UserError(
                f"{name}: widths needs {expected} items at downsample {self.downsample}, found {self.widths}"
            )
        divides(name, "norm_groups", self.norm_groups, widths=self.widths)
        return self

    def build(self) -> GridAutoencoder:
        """The autoencoder, with random weights or those of ``init_from``. Raises `UserError` for a wrong folder."""
        if len(self.space) == 2:
            from core.nn.grid_autoencoder import PlaneAutoencoder

            return PlaneAutoencoder(self)
        from core.nn.grid_autoencoder import VolumeAutoencoder

        return VolumeAutoencoder(self)
