"""Noise levels (method E9): schedules by name, log-SNR and timestep, signal and noise.

Everything in MedWeave states a noise level as log-SNR, the natural logarithm of signal variance over noise variance.
A network receives it as a timestep: one trained from scratch as `universal_timestep`, which tells all levels apart, a
pretrained one as the fractional timestep of the schedule that it was trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from core.types import ScheduleName

NUM_TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.0120
LARGEST_LOG_SNR = 15.0  # the cosine lies between -15 and 15, where float32 tells data and noise apart


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """Log-SNR by time (method E9): integer timesteps 0 (clean) to ``timesteps - 1`` (noise), or time from 0 to 1.

    ``scaled_linear``: beta from ``beta_start`` to ``beta_end``, linear in its square root, as in the papers.
    ``zero_terminal_snr``: the same, rescaled so that its last step is pure noise (Lin et al. 2024, Algorithm 1).
    ``cosine``: within log-SNR of ±15 (Hoogeboom et al. 2023, simple diffusion, Eq. 2).
    ``linear``: the path of rectified flow, ``(1 - t) x + t noise`` (Liu et al. 2023). Latents here stay variance
    preserving, which is the same path divided by ``sqrt((1 - t)^2 + t^2)``.

    ``shift`` is added to every log-SNR: ``2 log(64 / d)`` for images of d pixels (simple diffusion, Eq. 4), or
    ``-2 log(s)`` for the shift s of the time of rectified flow (Esser et al. 2024, Eq. 23).
    """

    name: ScheduleName = "scaled_linear"
    timesteps: int = NUM_TIMESTEPS
    beta_start: float = BETA_START
    beta_end: float = BETA_END
    shift: float = 0.0

    def log_snr(self, timestep: Tensor) -> Tensor:
        """Return the log-SNR at timesteps, any shape, clamped to the first and the last; float32, same shape.

        Between two timesteps of a table the angle ``atan(sigma / alpha)`` is linear.
        """
        position = timestep.double().clamp(0, self.timesteps - 1)
        if self._table is not None:
            return interpolated_log_snr(self._table.to(position.device), position).float()
        return self._continuous((position + 1) / self.timesteps)

    def log_snr_at(self, time: Tensor) -> Tensor:
        """Return the log-SNR at times between 0 (clean) and 1 (noise), any shape; float32, same shape.

        A table has a step of its own for each of ``timesteps`` equal parts of the time.
        """
        if self._table is not None:
            return self.log_snr((time.double() * self.timesteps).floor())
        return self._continuous(time.double())

    def timestep(self, log_snr: Tensor) -> Tensor:
        """Return the fractional timestep at a log-SNR, any shape; the inverse of `log_snr` for a table, float32."""
        if self._table is None:
            raise ValueError(f"schedule '{self.name}' has no table of timesteps")
        return interpolated_timestep(angle(self._table.to(log_snr.device)).float(), log_snr)

    def _continuous(self, time: Tensor) -> Tensor:
        """Return log-SNR of cosine and linear path, float32; ``time`` float64."""
        if self.name == "cosine":
            return cosine_log_snr(time, self.shift).float()
        path = 2 * (torch.log1p(-time) - time.log())
        return (path.clamp(max=LARGEST_LOG_SNR) + self.shift).float()

    @cached_property
    def _table(self) -> Tensor | None:
        """Log-SNR by timestep, float64 on the CPU; none for the continuous schedules."""
        if self.name in ("cosine", "linear"):
            return None
        # A tensor first made under inference_mode could not be used in training later.
        with torch.inference_mode(False), torch.no_grad():
            betas = scaled_linear_betas(self.timesteps, self.beta_start, self.beta_end)
            survival = (1 - betas).cumprod(0)
            if self.name == "zero_terminal_snr":
                survival = with_zero_terminal_snr(survival)
            return log_snr_of_survival(survival) + self.shift


def scaled_linear_betas(
    num_timesteps: int = NUM_TIMESTEPS, beta_start: float = BETA_START, beta_end: float = BETA_END
) -> Tensor:
    """Return β_t of method E9: 0.00085 to 0.0120, linear in √β. Float64 ``num_timesteps``, on the CPU."""
    return torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float64, device="cpu").square()


def with_zero_terminal_snr(survival: Tensor) -> Tensor:
    """Return ᾱ_t with √ᾱ_t shifted to end at 0 and scaled to keep its first value (Lin et al. 2024, Algorithm 1)."""
    root = survival.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()


def cosine_log_snr(time: Tensor, shift: float = 0.0) -> Tensor:
    """Return ``-2 log tan(a t + b) + shift`` of method E9, float64, any shape; 15 at time 0 and -15 at time 1.

    See Hoogeboom et al. 2023, Eq. 2 to 4: a and b are such that the ends stay where they are under a shift.
    """
    cleanest, noisiest = (math.atan(math.exp((shift - end) / 2)) for end in (LARGEST_LOG_SNR, -LARGEST_LOG_SNR))
    return -2 * torch.tan((noisiest - cleanest) * time + cleanest).log() + shift


def universal_timestep(log_snr: Tensor) -> Tensor:
    """Return ``999 (2 / pi) atan(exp(-log-SNR / 2))``: all levels, in steps of the cosine schedule (method E10).

    Any shape, infinities included; 0 for data, 999 for pure noise. Float32, same shape.
    """
    return angle(log_snr.float()) * ((NUM_TIMESTEPS - 1) * 2 / math.pi)


def angle(log_snr: Tensor) -> Tensor:
    """Return ``atan(sigma / alpha)`` of a log-SNR: 0 for data, π/2 for pure noise; same shape."""
    return (-log_snr / 2).exp().atan()


def log_snr_of_survival(survival: Tensor) -> Tensor:
    """Return log(ᾱ / (1 − ᾱ)) of ``timestep`` values of ᾱ, minus infinity where it is 0."""
    return survival.log() - (-survival).log1p()


def interpolated_log_snr(table: Tensor, position: Tensor) -> Tensor:
    """Return the log-SNR at fractional positions of a falling ``table``, whose values are kept as they are."""
    left = position.floor().long().clamp(max=len(table) - 2)
    part, angles = position - left, angle(table)
    between = -2 * torch.lerp(angles[left], angles[left + 1], part).tan().log()
    return torch.where(part == 0, table[left], torch.where(part == 1, table[left + 1], between))


def interpolated_timestep(angles: Tensor, log_snr: Tensor) -> Tensor:
    """Return the fractional timestep at a log-SNR, by the rising `angle` of every timestep; float32, same shape.

    Clamped to the first and the last timestep outside. Falls as ``log_snr`` grows.
    """
    level = angle(log_snr.to(angles.dtype)).clamp(angles[0], angles[-1])
    left = torch.searchsorted(angles, level.detach(), right=True).sub(1).clamp(0, len(angles) - 2)
    return left + (level - angles[left]) / (angles[left + 1] - angles[left])


PAPERS = NoiseSchedule()


def log_snr_of_timestep(timestep: Tensor) -> Tensor:
    """Return log(ᾱ_t / (1 − ᾱ_t)) of the papers' schedule (method E9): `NoiseSchedule.log_snr`."""
    return PAPERS.log_snr(timestep)


def timestep_of_log_snr(log_snr: Tensor) -> Tensor:
    """Return the fractional timestep of the papers' schedule, float32 in [0, 999] (method E9)."""
    return PAPERS.timestep(log_snr)


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Return α = √ᾱ and σ = √(1 − ᾱ) of method E9 with ᾱ = sigmoid(log-SNR); α² + σ² = 1.

    ``log_snr`` any shape; both results have its shape. +∞ is clean (1, 0), −∞ is pure noise (0, 1).
    """
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
