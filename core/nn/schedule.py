"""Noise levels (method E9): the schedule of the papers, log-SNR and timestep, signal and noise.

A network that was pretrained on timesteps receives its noise level as a fractional timestep. Everything else in
MedWeave uses log-SNR, the natural logarithm of signal variance over noise variance.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

NUM_TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.0120


def scaled_linear_betas(num_timesteps: int = NUM_TIMESTEPS) -> Tensor:
    """Return β_t of method E9: 0.00085 to 0.0120, linear in √β. Float64 ``num_timesteps``, on the CPU."""
    return torch.linspace(BETA_START**0.5, BETA_END**0.5, num_timesteps, dtype=torch.float64).square()


def log_snr_of_timestep(timestep: Tensor) -> Tensor:
    """Return log(ᾱ_t / (1 − ᾱ_t)) of method E9, linear between neighbouring timesteps.

    ``timestep`` any shape, integer or fractional; clamped to 0 and 999 outside. Float32, same shape.
    """
    table = _descending_log_snr(timestep.device)
    position = timestep.to(table.dtype).clamp(0, NUM_TIMESTEPS - 1)
    left = position.floor().long().clamp(max=NUM_TIMESTEPS - 2)
    return torch.lerp(table[left], table[left + 1], position - left)


def timestep_of_log_snr(log_snr: Tensor) -> Tensor:
    """Return the fractional timestep at a log-SNR: the inverse of `log_snr_of_timestep` (method E9).

    ``log_snr`` any shape, infinities included. Float32 in [0, 999], same shape: 0 for anything cleaner than the
    first timestep, 999 for anything noisier than the last. Falls as ``log_snr`` grows.
    """
    table = _descending_log_snr(log_snr.device)
    level = log_snr.to(table.dtype).clamp(table[-1], table[0])
    left = torch.searchsorted(-table, -level, right=True).sub(1).clamp(0, NUM_TIMESTEPS - 2)
    return left + (table[left] - level) / (table[left] - table[left + 1])


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Return α = √ᾱ and σ = √(1 − ᾱ) of method E9 with ᾱ = sigmoid(log-SNR); α² + σ² = 1.

    ``log_snr`` any shape; both results have its shape. +∞ is clean (1, 0), −∞ is pure noise (0, 1).
    """
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


@cache
def _descending_log_snr(device: torch.device) -> Tensor:
    # A tensor first made under inference_mode could not be used in training later.
    with torch.inference_mode(False), torch.no_grad():
        survival = (1 - scaled_linear_betas()).cumprod(0)
        return (survival.log() - (-survival).log1p()).float().to(device)
