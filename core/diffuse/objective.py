"""The forward process and the objective of latent diffusion (method E9, E10), and the null prompt (method E6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from core.config.recipe import DiffuseChoice
from core.nn import NoiseSchedule, Parameterisation, alpha_sigma

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """The diffusion of a run: what denoisers predict, at which noise levels, and how errors weigh (method E9, E10).

    ``logit_normal``: location and scale of the density of training times; uniform where it is ``None``.
    ``min_snr_gamma`` weighs the levels of the phase `diffuse`.
    """

    parameterisation: Parameterisation = field(default_factory=Parameterisation)
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    logit_normal: tuple[float, float] | None = None
    min_snr_gamma: float | None = None

    @classmethod
    def of(cls, choice: DiffuseChoice) -> Self:
        """Return the diffusion that a recipe chooses."""
        density = (choice.density_location, choice.density_scale) if choice.density == "logit_normal" else None
        schedule = NoiseSchedule(
            name=choice.schedule,
            timesteps=choice.timesteps,
            beta_start=choice.beta_start,
            beta_end=choice.beta_end,
            shift=choice.shift,
        )
        return cls(
            parameterisation=Parameterisation(choice.objective),
            schedule=schedule,
            logit_normal=density,
            min_snr_gamma=choice.min_snr_gamma,
        )

    def draw_levels(self, batch: int, generator: Generator) -> Tensor:
        """Draw times and return their log-SNR, float32 ``batch`` (method E10)."""
        return self.schedule.log_snr_at(draw_times(batch, generator, self.logit_normal))

    def errors(self, clean: Tensor, noise: Tensor, level: Tensor, prediction: Tensor) -> Tensor:
        """Return the mean squared error of the prediction of each sample, ``batch`` (method E10; MedCoDi-M Eq. 2).

        ``clean``, ``noise`` and ``prediction`` ``batch channel *space``; ``level`` log-SNR ``batch``.
        """
        target = self.parameterisation.target(clean, noise, level)
        return (target - prediction.float()).square().flatten(1).mean(1)

    def loss(self, clean: Tensor, noise: Tensor, level: Tensor, prediction: Tensor) -> Tensor:
        """Return the objective of the phase `diffuse`: the mean of the `errors`, weighed by level (method E10)."""
        errors = self.errors(clean, noise, level, prediction)
        if self.min_snr_gamma is None:
            return errors.mean()
        return (errors * self.parameterisation.weight(level, self.min_snr_gamma)).mean()


def draw_times(batch: int, generator: Generator, logit_normal: tuple[float, float] | None = None) -> Tensor:
    """Draw times between 0 (clean) and 1 (noise), float32 ``batch``: uniform, or logit-normal (method E10).

    ``logit_normal``: location and scale of the normal variable whose sigmoid is the time (Esser et al. 2024, Eq. 19).
    """
    import torch

    if logit_normal is None:
        return torch.rand(batch, generator=generator)
    location, scale = logit_normal
    return (location + scale * torch.randn(batch, generator=generator)).sigmoid()


def noised(z: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Return ``z_t = sqrt(alpha_bar_t) z + sqrt(1 - alpha_bar_t) noise`` (method E9; MedM2G Eq. 1).

    ``z``, ``noise`` and the result ``batch channel *space``; ``level`` log-SNR ``batch``.
    """
    alpha, sigma = (factor.view(-1, *[1] * (z.ndim - 1)) for factor in alpha_sigma(level))
    return alpha * z + sigma * noise


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
