"""Latent scale and shift (method E7): measured over the whole training set, applied in training *and* sampling."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from core.errors import UserError
from core.types import LatentSpec

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST_STD = 1e-6


def fit_scale(spec: LatentSpec, latents: Iterable[Tensor]) -> LatentSpec:
    """Return the spec with shift = mean and scale = 1 / standard deviation of every channel.

    ``latents`` yields posterior means ``batch channel *space`` of the whole training set, one batch at a time.
    Sums run in float64 around the first batch's mean, so a large offset costs no precision.
    Raises `UserError` when there is no latent, a value is not finite, or a channel is constant.
    """
    import torch

    origin: Tensor | None = None
    total = squares = torch.zeros(spec.channels, dtype=torch.float64)
    count = 0
    for latent in latents:
        rows = latent.detach().to("cpu", torch.float64).movedim(1, -1).reshape(-1, spec.channels)
        origin = rows.mean(0) if origin is None else origin
        total = total + (rows - origin).sum(0)
        squares = squares + (rows - origin).square().sum(0)
        count += len(rows)
    if origin is None or count < 2:
        raise UserError("no latents to measure the scale on: the training split is empty")
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    _require_variation(std)
    return replace(spec, scale=tuple((1 / std).tolist()), shift=tuple((origin + mean).tolist()))


def _require_variation(std: Tensor) -> None:
    if not std.isfinite().all():
        raise UserError("latents are not finite: the autoencoder has diverged; train it again with a smaller step")
    constant = [index for index, value in enumerate(std.tolist()) if value < _SMALLEST_STD]
    if constant:
        raise UserError(
            f"latent channels {constant} are constant over the training set (collapsed posterior): "
            "lower the KL weight or train the autoencoder longer"
        )


def scaled(latent: Tensor, spec: LatentSpec) -> Tensor:
    """Return ``(latent - shift) * scale`` per channel: unit variance, the input of the diffusion (method E7)."""
    shift, scale = _columns(latent, spec)
    return (latent - shift) * scale


def unscaled(latent: Tensor, spec: LatentSpec) -> Tensor:
    """Return the inverse of `scaled`: what the autoencoder decodes."""
    shift, scale = _columns(latent, spec)
    return latent / scale + shift


def _columns(latent: Tensor, spec: LatentSpec) -> tuple[Tensor, Tensor]:
    if spec.scale is None or spec.shift is None:
        raise UserError("the latent scale is missing: train the phase 'autoencoder' to its end, which measures it")
    shape = (1, -1) + (1,) * (latent.ndim - 2)
    return latent.new_tensor(spec.shift).view(shape), latent.new_tensor(spec.scale).view(shape)
