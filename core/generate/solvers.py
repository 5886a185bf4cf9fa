"""Solvers of the reverse process on a tuple of latents over one shared schedule (method E16).

Plain functions without state. Latents are variance preserving, levels are log-SNR, and networks
predict the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, tensor

from core.config.preset import Solver
from core.errors import UserError
from core.nn import alpha_sigma

Latents = tuple[Tensor, ...]
Predict = Callable[[Latents, tuple[Tensor, ...], tuple[int, ...]], tuple[Tensor, ...]]
Noise = Callable[[int, int], Tensor]


@dataclass(frozen=True, eq=False)
class Estimate:
    """The state of a flow at one of its steps: level (log-SNR), latent and predicted noise ``eps``.

    Latent and noise are ``batch channel *space``, and so is every latent and slope below.
    """

    level: float
    z: Tensor
    eps: Tensor

    @property
    def clean(self) -> Tensor:
        """Return the clean estimate ``(z - sigma eps) / alpha``."""
        alpha, sigma = _alpha_sigma(self.level)
        return (self.z - sigma * self.eps) / alpha

    def at(self, level: float) -> Tensor:
        """Return the latent at another level for the same clean estimate: ``alpha clean + sigma eps`` (method E16)."""
        alpha, sigma = _alpha_sigma(level)
        return alpha * self.clean + sigma * self.eps


def solve(
    predict: Predict,
    latents: Latents,
    schedule: Tensor,
    noise: Noise | None = None,
    *,
    solver: Solver = "ddim",
    eta: float = 0.0,
    points: Sequence[Sequence[int]] | None = None,
) -> Latents:
    """Step all flows together from the first level of ``schedule`` to the last (method E16).

    ``latents``: one ``batch channel *space`` per flow. ``schedule``: rising log-SNR ``point``, float32.

    ``predict(latents, levels, due)`` returns ``eps`` of the flows in ``due``, which read the current latents of all;
    each of ``levels`` is a float32 scalar. ``noise(flow, step)`` is drawn for DDIM with ``eta`` above 0 only.
    ``points``: for each flow the indices in ``schedule`` at which it steps, all of them where left out. Between its
    steps a flow is read with its clean estimate unchanged, so it ends as it would on its coarser schedule alone.
    Raises `UserError` for noise with a solver that draws none, `ValueError` for points that are no schedule.
    """
    _require_valid(eta, solver, noise, points, len(latents), len(schedule))
    levels = [float(level) for level in schedule]
    steps = [list(indices) for indices in points or [range(len(levels))] * len(latents)]
    current, histories = list(latents), [_History() for _ in latents]
    for step, level in enumerate(levels[:-1]):
        due = tuple(flow for flow, indices in enumerate(steps) if step in indices)
        seen = tuple(z if flow in due else histories[flow].now.at(level) for flow, z in enumerate(current))
        for flow, eps in zip(due, predict(seen, _scalars(level, seen), due), strict=True):
            histories[flow] = _History(Estimate(level, current[flow], eps), histories[flow].latest)
        following = {flow: levels[steps[flow][steps[flow].index(step) + 1]] for flow in due}
        if solver == "heun":
            histories = _corrected(predict, histories, following)
        for flow, level_next in following.items():
            drawn = noise(flow, step) if noise is not None and eta > 0 and level_next < math.inf else None
            current[flow] = _stepped(histories[flow], level_next, solver, eta, drawn)
    return tuple(current)


def ddim_step(now: Estimate, level: float, eta: float = 0.0, noise: Tensor | None = None) -> Tensor:
    """Take a DDIM step to ``level`` (method E16; DDIM Eq. 12, 16).

    ``eta`` 0 is deterministic, 1 has the variance of DDPM. ``noise`` and the result ``batch channel *space``.
    """
    if eta == 0 or noise is None:
        return now.at(level)
    alpha, sigma = _alpha_sigma(now.level)
    alpha_next, sigma_next = _alpha_sigma(level)
    # sqrt(1 - abar_t / abar_prev), written with the log-SNR so that neighbouring levels lose no digits.
    shrink = math.sqrt(-math.expm1(math.log(alpha) * 2 - math.log(alpha_next) * 2))
    std = eta * sigma_next / sigma * shrink
    return alpha_next * now.clean + math.sqrt(max(sigma_next**2 - std**2, 0.0)) * now.eps + std * noise


def euler_step(now: Estimate, level: float) -> Tensor:
    """Take an Euler step in ``z / alpha`` over ``sigma / alpha``, whose slope is ``eps`` (method E16).

    Returns the latent at ``level``, ``batch channel *space`` (Karras et al., Alg. 1).
    """
    (alpha, sigma), (alpha_next, sigma_next) = _alpha_sigma(now.level), _alpha_sigma(level)
    return alpha_next * (now.z / alpha + (sigma_next / alpha_next - sigma / alpha) * now.eps)


def heun_slope(eps: Tensor, eps_next: Tensor) -> Tensor:
    """Return Heun's second-order slope: the mean of both ends of an Euler step (method E16).

    See Karras et al., Alg. 1. Both ends and the result ``batch channel *space``.
    """
    return (eps + eps_next) / 2


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


def _stepped(history: _History, level: float, solver: Solver, eta: float, noise: Tensor | None) -> Tensor:
    if solver == "ddim":
        return ddim_step(history.now, level, eta, noise)
    if solver == "dpmpp_2m":
        return dpmpp_2m_step(history.now, history.before, level)
    return euler_step(history.now, level)


def _corrected(predict: Predict, histories: list[_History], following: dict[int, float]) -> list[_History]:
    """Evaluate a second time, as Heun does: all flows are read at the level to which some step; those are corrected."""
    corrected = list(histories)
    for level in sorted({level for level in following.values() if level < math.inf}):
        due = tuple(flow for flow, level_next in following.items() if level_next == level)
        seen = tuple(history.now.at(level) for history in histories)
        for flow, eps in zip(due, predict(seen, _scalars(level, seen), due), strict=True):
            now = histories[flow].now
            corrected[flow] = _History(Estimate(now.level, now.z, heun_slope(now.eps, eps)), histories[flow].before)
    return corrected


def _alpha_sigma(level: float) -> tuple[float, float]:
    alpha, sigma = alpha_sigma(tensor(level).double())
    return float(alpha), float(sigma)


def _scalars(level: float, like: Latents) -> tuple[Tensor, ...]:
    return tuple(tensor(level).to(z.device) for z in like)


def _require_valid(
    eta: float, solver: Solver, noise: Noise | None, points: Sequence[Sequence[int]] | None, flows: int, length: int
) -> None:
    if eta > 0 and solver != "ddim":
        raise UserError(f"solver '{solver}' draws no noise: set sampler.eta to 0, or take solver 'ddim' (eta {eta})")
    if eta > 0 and noise is None:
        raise ValueError("eta is above 0: give the noise to draw")
    for indices in points or ():
        if indices[0] != 0 or indices[-1] != length - 1 or any(b <= a for a, b in pairwise(indices)):
            raise ValueError(f"step indices must rise from 0 to {length - 1}, found {tuple(indices)}")
    if points is not None and len(points) != flows:
        raise ValueError(f"{flows} flows need as many rows of step indices, found {len(points)}")
