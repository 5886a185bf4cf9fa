"""Solvers of the reverse process on a tuple of latents over one shared schedule (method E16).

Plain functions without state. Latents are variance preserving and levels are log-SNR. What networks predict becomes
an estimate of the clean latent and of the noise, with which every solver works (`Parameterisation`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, tensor

from core.config.sampler import Solver
from core.errors import UserError
from core.nn import Parameterisation, alpha_sigma

Latents = tuple[Tensor, ...]
Predict = Callable[[Latents, tuple[Tensor, ...], tuple[int, ...]], tuple[Tensor, ...]]
Noise = Callable[[int, int], Tensor]
LARGEST_SIGMA = 80.0  # sigma / alpha at the noisiest level of Karras et al. (Table 1)


@dataclass(frozen=True, eq=False)
class Estimate:
    """The state of a flow at one of its steps: level (log-SNR), latent, and the estimates of ``clean`` and ``noise``.

    All of them, and every latent below, are ``batch channel *space``, with ``z = alpha clean + sigma noise``.
    """

    level: float
    z: Tensor
    clean: Tensor
    noise: Tensor

    @classmethod
    def of(cls, level: float, z: Tensor, prediction: Tensor, parameterisation: Parameterisation) -> Estimate:
        """Return what a prediction says of a latent (method E10)."""
        exact = tensor(level, dtype=torch.float64)
        clean = parameterisation.to_clean(z, prediction, exact)
        return cls(level, z, clean, parameterisation.to_noise(z, prediction, exact))

    def at(self, level: float) -> Tensor:
        """Return the latent at another level for the same estimates: ``alpha clean + sigma noise`` (method E16)."""
        alpha, sigma = _alpha_sigma(level)
        return alpha * self.clean + sigma * self.noise


def solve(
    predict: Predict,
    latents: Latents,
    schedule: Tensor,
    noise: Noise | None = None,
    *,
    solver: Solver = "ddim",
    eta: float = 0.0,
    points: Sequence[Sequence[int]] | None = None,
    parameterisation: Parameterisation | None = None,
    watch: Callable[[int, Latents], None] | None = None,
) -> Latents:
    """Step all flows together from the first level of ``schedule`` to the last (method E16, F3).

    ``latents``: one ``batch channel *space`` per flow. ``schedule``: rising log-SNR, float32, ``point`` for all flows
    or ``flow point``; it may begin at minus infinity, pure noise, unless networks predict the noise.

    ``predict(latents, levels, due)`` returns predictions of the flows in ``due``, which read the current latents of
    all; each of ``levels`` is a float32 scalar. ``parameterisation`` says what they are, the noise where left out.
    ``noise(flow, step)`` is drawn for DDIM with ``eta`` above 0 only. ``points``: for each flow the indices in
    ``schedule`` at which it steps, those where its level changes where left out. Between its steps a flow is read with
    its estimates unchanged, so it ends as it would on its coarser schedule alone; before the first it is read as it
    is, and after the last as a clean latent. ``watch`` is called after every step with its number and the estimates of
    the clean latents.

    Raises `UserError` for noise with a solver that draws none and for predicted noise at minus infinity, `ValueError`
    for points that are no schedule.
    """
    parameterisation = parameterisation or Parameterisation()
    levels = schedule.expand(len(latents), -1).tolist()
    steps = [_changes(row) for row in levels] if points is None else [list(indices) for indices in points]
    _require_valid(eta, solver, noise, steps, levels)
    _require_invertible(parameterisation, min(row[0] for row in levels))
    current, histories = list(latents), [_History() for _ in latents]
    for step in range(schedule.shape[-1] - 1):
        due = tuple(flow for flow, indices in enumerate(steps) if step in indices[:-1])
        now = [row[step] for row in levels]
        seen = tuple(z if flow in due else histories[flow].at(now[flow], z) for flow, z in enumerate(current))
        for flow, predicted in zip(due, predict(seen, _scalars(now, seen), due), strict=True):
            estimate = Estimate.of(now[flow], current[flow], predicted, parameterisation)
            histories[flow] = _History(estimate, histories[flow].latest)
        following = {flow: steps[flow][steps[flow].index(step) + 1] for flow in due}
        if solver == "heun":
            histories = _corrected(predict, current, histories, following, levels, parameterisation)
        for flow, index in following.items():
            level_next = levels[flow][index]
            drawn = noise(flow, step) if noise is not None and eta > 0 and level_next < math.inf else None
            current[flow] = _stepped(histories[flow], level_next, solver, eta, drawn)
        if watch is not None:
            pairs = zip(histories, current, strict=True)
            watch(step, tuple(z if history.latest is None else history.latest.clean for history, z in pairs))
    return tuple(current)


def ddim_step(now: Estimate, level: float, eta: float = 0.0, noise: Tensor | None = None) -> Tensor:
    """Take a DDIM step to ``level`` (method E16; DDIM Eq. 12, 16).

    ``eta`` 0 is deterministic, 1 has the variance of DDPM. ``noise`` and the result ``batch channel *space``.
    """
    if eta == 0 or noise is None:
        return now.at(level)
    _, sigma = _alpha_sigma(now.level)
    alpha_next, sigma_next = _alpha_sigma(level)
    # sqrt(1 - abar_t / abar_prev), written with the log-SNR so that neighbouring levels lose no digits.
    shrink = math.sqrt(-math.expm1(_log_survival(now.level) - _log_survival(level)))
    std = eta * sigma_next / sigma * shrink
    return alpha_next * now.clean + math.sqrt(max(sigma_next**2 - std**2, 0.0)) * now.noise + std * noise


def euler_step(now: Estimate, level: float) -> Tensor:
    """Take an Euler step to ``level``, ``batch channel *space`` (method E16; Karras et al., Alg. 1).

    In ``z / alpha`` over ``sigma / alpha`` the slope is the noise, and in ``z / (alpha + sigma)`` over
    ``sigma / (alpha + sigma)`` (rectified flow) it is noise minus clean latent. Both hold the two estimates, so they
    are one step, that of DDIM without noise.
    """
    return now.at(level)


def heun_slope(slope: Tensor, slope_next: Tensor) -> Tensor:
    """Return Heun's second-order slope: the mean of both ends of an Euler step (method E16).

    See Karras et al., Alg. 1. Both ends and the result ``batch channel *space``.
    """
    return (slope + slope_next) / 2


def heun_correction(now: Estimate, following: Estimate, parameterisation: Parameterisation) -> Estimate:
    """Return ``now`` with Heun's slope between its level and that of ``following`` (method E16).

    The slope is the noise, in ``z / alpha`` over ``sigma / alpha``, as Karras et al. have it. For rectified flow it is
    noise minus clean latent, and from levels beyond theirs up to pure noise too: there ``sigma / alpha`` grows without
    end, and with it what an error of the slope does to the clean estimate. All latents ``batch channel *space``.
    """
    if parameterisation.objective == "rectified_flow" or now.level < -2 * math.log(LARGEST_SIGMA):
        slope = heun_slope(now.noise - now.clean, following.noise - following.clean)
        return Estimate.of(now.level, now.z, slope, Parameterisation("rectified_flow"))
    slope = heun_slope(now.noise, following.noise)
    return Estimate.of(now.level, now.z, slope, Parameterisation("epsilon"))


def dpmpp_2m_step(now: Estimate, before: Estimate | None, level: float) -> Tensor:
    """Take a DPM-Solver++ 2M step (method E16; Alg. 2), of first order at the start and onto a clean latent.

    Returns the latent at ``level``, ``batch channel *space``.
    """
    (_, sigma), (alpha_next, sigma_next) = _alpha_sigma(now.level), _alpha_sigma(level)
    h = (level - now.level) / 2  # lambda is half the log-SNR
    d = now.clean
    if before is not None and math.isfinite(level):
        r = (now.level - before.level) / 2 / h
        d = d + (now.clean - before.clean) / (2 * r)
    return sigma_next / sigma * now.z - alpha_next * math.expm1(-h) * d


@dataclass(frozen=True, eq=False)
class _History:
    """The newest estimate of a flow and the one before it."""

    latest: Estimate | None = None
    before: Estimate | None = None

    @property
    def now(self) -> Estimate:
        """Return the newest estimate; every flow has one after the first level."""
        if self.latest is None:
            raise ValueError("a flow has no estimate before its first level")
        return self.latest

    def at(self, level: float, z: Tensor) -> Tensor:
        """Return the flow as it is read at a level between its steps: ``z``, its latent, before the first."""
        return z if self.latest is None else self.latest.at(level)


def _changes(levels: Sequence[float]) -> list[int]:
    """Return the indices at which a flow steps: from where its level first changes to where it last has."""
    rising = [index for index, (a, b) in enumerate(pairwise(levels)) if a != b]
    return [*rising, rising[-1] + 1] if rising else [0]


def _stepped(history: _History, level: float, solver: Solver, eta: float, noise: Tensor | None) -> Tensor:
    if solver == "ddim":
        return ddim_step(history.now, level, eta, noise)
    if solver == "dpmpp_2m":
        return dpmpp_2m_step(history.now, history.before, level)
    return euler_step(history.now, level)


def _corrected(
    predict: Predict,
    current: Sequence[Tensor],
    histories: list[_History],
    following: dict[int, int],
    levels: Sequence[Sequence[float]],
    parameterisation: Parameterisation,
) -> list[_History]:
    """Evaluate a second time, as Heun does: all flows are read at the index to which some step; those are corrected."""
    corrected = list(histories)
    noisy = {flow: index for flow, index in following.items() if levels[flow][index] < math.inf}
    for index in sorted(set(noisy.values())):
        due = tuple(flow for flow, index_next in noisy.items() if index_next == index)
        now = [row[index] for row in levels]
        seen = tuple(histories[flow].at(now[flow], z) for flow, z in enumerate(current))
        for flow, predicted in zip(due, predict(seen, _scalars(now, seen), due), strict=True):
            estimate = Estimate.of(now[flow], seen[flow], predicted, parameterisation)
            slope = heun_correction(histories[flow].now, estimate, parameterisation)
            corrected[flow] = _History(slope, histories[flow].before)
    return corrected


def _alpha_sigma(level: float) -> tuple[float, float]:
    alpha, sigma = alpha_sigma(tensor(level).double())
    return float(alpha), float(sigma)


def _log_survival(level: float) -> float:
    """Return log(alpha^2) at a log-SNR; minus infinity for pure noise."""
    return -math.inf if level == -math.inf else -math.log1p(math.exp(-level))


def _scalars(levels: Sequence[float], like: Latents) -> tuple[Tensor, ...]:
    return tuple(tensor(level).to(z.device) for level, z in zip(levels, like, strict=True))


def _require_invertible(parameterisation: Parameterisation, first: float) -> None:
    if first == -math.inf and not parameterisation.sees_pure_noise:
        raise UserError(
            "a schedule that begins with pure noise (zero terminal SNR) needs a denoiser that predicts 'v', 'clean' or"
            " 'rectified_flow', found 'epsilon': set diffuse.objective to one of these, or diffuse.schedule to"
            " 'scaled_linear'"
        )


def _require_valid(
    eta: float,
    solver: Solver,
    noise: Noise | None,
    points: Sequence[Sequence[int]],
    levels: Sequence[Sequence[float]],
) -> None:
    if eta > 0 and solver != "ddim":
        raise UserError(f"solver '{solver}' draws no noise: set sampler.eta to 0, or take solver 'ddim' (eta {eta})")
    if eta > 0 and noise is None:
        raise ValueError("eta is above 0: give the noise to draw")
    if len(points) != len(levels):
        raise ValueError(f"{len(levels)} flows need as many rows of step indices, found {len(points)}")
    for indices, row in zip(points, levels, strict=True):
        whole = (row[indices[0]], row[indices[-1]]) == (row[0], row[-1])
        if not whole or any(b <= a for a, b in pairwise(indices)):
            raise ValueError(f"step indices must rise from the first level to the last, found {tuple(indices)}")
