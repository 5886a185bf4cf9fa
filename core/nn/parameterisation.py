"""What a denoiser predicts (method E10): the noise, the velocity, the clean latent, or the slope of rectified flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.nn.schedule import alpha_sigma
from core.types import Objective


@dataclass(frozen=True)
class Parameterisation:
    """The one place that knows what a prediction means (method E10).

    Every prediction is ``a noise + b clean`` with factors of the level alone (`factors`). With the latent at its level,
    ``z = alpha clean + sigma noise`` (method E9), both are known: see `to_clean` and `to_noise`.

    Latents, noise and predictions ``batch channel *space``; ``level`` log-SNR ``batch``, or one for all.
    """

    objective: Objective = "epsilon"

    @property
    def sees_pure_noise(self) -> bool:
        """Return whether a prediction at log-SNR minus infinity says something of the clean latent."""
        return self.objective != "epsilon"

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Return what a denoiser is trained to predict of a latent and the noise added to it."""
        a, b = (_spread(factor, clean) for factor in self.factors(*alpha_sigma(level)))
        return a * noise + b * clean

    def to_clean(self, z: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        """Return the clean estimate ``(a z - sigma prediction) / (alpha a - sigma b)``.

        Infinite for predicted noise at log-SNR minus infinity, where the latent holds no data.
        """
        if self.objective == "clean":
            return prediction
        _, sigma, a, _, determinant = self._system(level)
        return _spread(a / determinant, z) * z - _spread(sigma / determinant, z) * prediction

    def to_noise(self, z: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        """Return the noise estimate ``(alpha prediction - b z) / (alpha a - sigma b)``.

        Infinite for a predicted clean latent at log-SNR infinity, where the latent holds no noise.
        """
        if self.objective == "epsilon":
            return prediction
        alpha, _, _, b, determinant = self._system(level)
        return _spread(alpha / determinant, z) * prediction - _spread(b / determinant, z) * z

    def weight(self, level: Tensor, gamma: float) -> Tensor:
        """Return the min-SNR weight of a squared error of the prediction, ``batch`` (Hang et al. 2023, section 3.4).

        It is ``min(SNR, gamma)`` for the clean latent. An error of the prediction is one of the clean estimate divided
        by ``sigma / (alpha a - sigma b)``, so that its weight is ``min(alpha^2, gamma sigma^2)`` over the square of
        the denominator: ``min(SNR, gamma) / SNR`` for the noise, ``min(SNR, gamma) / (SNR + 1)`` for the velocity.
        """
        alpha, sigma, _, _, determinant = self._system(level)
        return torch.minimum(alpha.square(), gamma * sigma.square()) / determinant.square()

    def _system(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, sigma, a, b and the determinant of the two equations for latent and prediction."""
        alpha, sigma = alpha_sigma(level)
        a, b = self.factors(alpha, sigma)
        return alpha, sigma, a, b, alpha * a - sigma * b

    def factors(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and b of ``a noise + b clean``.

        epsilon: noise (method E10; DDPM Eq. 12). v: ``alpha noise - sigma clean`` (Salimans & Ho 2022, section 4).
        clean: the clean latent. rectified_flow: ``noise - clean`` (Liu et al. 2023, Eq. 1, with time reversed).
        """
        unit, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
        return {
            "epsilon": (unit, zero),
            "v": (alpha, -sigma),
            "clean": (zero, unit),
            "rectified_flow": (unit, -unit),
        }[self.objective]


def _spread(factor: Tensor, like: Tensor) -> Tensor:
    """Return a factor ``batch``, or one for all, with the axes of ``like``."""
    return factor.view(-1, *[1] * (like.ndim - 1)) if factor.ndim else factor
