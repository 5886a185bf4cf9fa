"""Switches of the phase ``autoencoder``: whether images train at all, and the terms beyond L1 and KL."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from core.config.toml import Table


class AutoencoderChoice(Table):
    """How autoencoders of images and volumes are trained (method section 3); others are not affected.

    With ``train = false``, given weights (``MODALITY.autoencoder.init_from``) stay as they are, and only the scale of
    the latents is measured.

    ``perceptual_weight``: weight of the distance between features of data and reconstruction, off at 0. They are those
    of ``perceptual_from``: a folder of a timm network (``config.json`` and ``model.safetensors``), or the run folder of
    an earlier run, whose aligned prompt encoders are used. ``perceptual_distance``: see
    `core.encode.perceptual.feature_distance`.

    ``adversarial_weight``: weight of a patch adversary, off at 0. It and its loss start at the step
    ``adversarial_start``. ``adversary_channels`` and ``adversary_layers`` are its width and its convolutions of stride
    2 and 1 after the first one.
    """

    train: bool = True
    perceptual_weight: float = Field(default=0.0, ge=0)
    perceptual_from: str | None = None
    perceptual_distance: Literal["l1", "l2"] = "l2"
    adversarial_weight: float = Field(default=0.0, ge=0)
    adversarial_start: int = Field(default=0, ge=0)
    adversary_channels: int = Field(default=64, ge=1)
    adversary_layers: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _require_agreement(self) -> Self:
        if self.perceptual_weight and self.perceptual_from is None:
            raise ValueError(
                "perceptual_weight needs the network that sees the features: give perceptual_from, the folder of a timm"
                " network or of an earlier run"
            )
        if not self.train and (self.perceptual_weight or self.adversarial_weight):
            raise ValueError(
                "train = false leaves the autoencoders as they are: set perceptual_weight and adversarial_weight to 0"
            )
        return self
