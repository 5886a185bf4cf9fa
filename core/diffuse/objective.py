"""The forward process and the objective of latent diffusion (method E9, E10), and the null prompt (method E6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.nn import NUM_TIMESTEPS, alpha_sigma, log_snr_of_timestep

if TYPE_CHECKING:
    from torch import Generator, Tensor


def draw_levels(batch: int, generator: Generator) -> Tensor:
    """Draw timesteps uniformly and return their log-SNR, float32 ``batch`` (method E10)."""
    import torch

    return log_snr_of_timestep(torch.randint(0, NUM_TIMESTEPS, (batch,), generator=generator))


def noised(z: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Return ``z_t = sqrt(alpha_bar_t) z + sqrt(1 - alpha_bar_t) noise`` (method E9; MedM2G Eq. 1).

    ``z``, ``noise`` and the result ``batch channel *space``; ``level`` log-SNR ``batch``.
    """
    alpha, sigma = (factor.view(-1, *[1] * (z.ndim - 1)) for factor in alpha_sigma(level))
    return alpha * z + sigma * noise


def noise_loss(noise: Tensor, predicted: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean squared error of the predicted noise (method E10; MedCoDi-M Eq. 2, MedM2G Eq. 2).

    Both ``batch channel *space``, the result a scalar. ``weight`` ``batch``: that of each sample, 1 where left out.
    """
    errors = (noise - predicted).square()
    return errors.mean() if weight is None else (errors.flatten(1).mean(1) * weight).mean()


def min_snr_weight(level: Tensor, gamma: float) -> Tensor:
    """Return ``min(SNR, gamma) / SNR`` of each log-SNR, the weight of a predicted noise (method E10).

    ``batch``: 1 for noisy levels, less for nearly clean ones, whose noise carries little information (Hang et al.
    2023, section 3.4).
    """
    return (gamma * (-level).exp()).clamp(max=1)


def guided(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Return the guided noise ``eps_null + s (eps_c - eps_null)`` (method E6); all ``batch channel *space``."""
    return unconditional + scale * (conditional - unconditional)


def draw_prompts(available: Sequence[str], sampling: str, generator: Generator) -> tuple[str, ...]:
    """Draw the prompts of one step: one of all ``subsets`` (method E5), a ``single`` prompt, or ``all``."""
    import torch

    if not available or sampling == "all":
        return tuple(available)
    if sampling == "single":
        return (available[int(torch.randint(0, len(available), (1,), generator=generator))],)
    return draw_subset(available, generator)


def draw_subset(available: Sequence[str], generator: Generator) -> tuple[str, ...]:
    """Draw one of the ``2^n - 1`` non-empty subsets uniformly (method E5; MedCoDi-M 2.2)."""
    import torch

    number = int(torch.randint(1, 2 ** len(available), (1,), generator=generator))
    return tuple(name for index, name in enumerate(available) if number >> index & 1)
