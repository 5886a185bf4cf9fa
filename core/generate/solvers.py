"""Solvers of the reverse process on a tuple of latents over one master grid (METHOD E16).

Plain functions: nothing is kept between calls. Latents are variance preserving, levels are log-SNR, and networks
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
    """What a flow knew at one of its own grid points: level (log-SNR), latent and predicted noise ``eps``.

    Both ``batch channel *space``, and so is every latent and slope below.
    """

    level: float
    z: Tensor
    eps: Tensor

    @property
    def clean(self) -> Tensor:
        """The clean estimate ``(z - sigma eps) / alpha``."""
        alpha, sigma = _alpha_sigma(self.level)
        return (self.z - sigma * self.eps) / alpha

    def at(self, level: float) -> Tensor:
        """The latent at another level while the clean estimate is held: ``alpha clean + sigma eps`` (METHOD E16)."""
        alpha, sigma = _alpha_sigma(level)
        return alpha * self.clean + sigma * self.eps


def solve(
    predict: Predict,
    latents: Latents,
    grid: Tensor,
    noise: Noise | None = None,
    *,
    solver: Solver = "ddim",
    eta: float = 0.0,
    points: Sequence[Sequence[int]] | None = None,
) -> Latents:
    """Step all flows together from the first level of ``grid`` to the last (METHOD E16).

    ``latents``: one ``batch channel *space`` per flow. ``grid``: rising log-SNR ``point``, float32.

    ``predict(latents, levels, due)`` gives ``eps`` of the flows in ``due``, which see the current latents of all; each
    of ``levels`` is a float32 scalar. ``noise(flow, step)`` is drawn for DDIM with ``eta`` above 0 only. ``points``:
    places in ``grid`` of each flow's own grid points, all of them where left out. Between its own points a flow is
    seen with its clean estimate held, so it ends where it would have ended on its own grid alone.
    Raises `UserError` for noise asked of a solver that has none, and for points that are not a grid of their own.
    """
    _check(eta, solver, noise, points, len(latents), len(grid))
    levels = [float(level) for level in grid]
    ends = [list(own) for own in points or [range(len(levels))] * len(latents)]
    current, known = list(latents), [_Known() for _ in latents]
    for step, level in enumerate(levels[:-1]):
        due = tuple(flow for flow, own in enumerate(ends) if step in own)
        seen = tuple(z if flow in due else known[flow].now.at(level) for flow, z in enumerate(current))
        for flow, eps in zip(due, predict(seen, _scalars(level, seen), due), strict=True):
            known[flow] = _Known(Estimate(level, current[flow], eps), known[flow].latest)
        following = {flow: levels[ends[flow][ends[flow].index(step) + 1]] for flow in due}
        if solver == "heun":
            known = _corrected(predict, known, following)
        for flow, level_next in following.items():
            drawn = noise(flow, step) if noise is not None and eta > 0 and level_next < math.inf else None
            current[flow] = _stepped(known[flow], level_next, solver, eta, drawn)
    return tuple(current)


def ddim_step(now: Estimate, level: float, eta: float = 0.0, noise: Tensor | None = None) -> Tensor:
    """DDIM to the next level; ``eta`` 0 is deterministic, 1 has the variance of DDPM (METHOD E16; DDIM Eq. 12, 16).

    ``noise`` and the result ``batch channel *space``.
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
    """Euler in ``z / alpha`` over ``sigma / alpha``, whose slope is ``eps`` (METHOD E16; Karras et al., Alg. 1).

    The latent at ``level``, ``batch channel *space``.
    """
    (alpha, sigma), (alpha_next, sigma_next) = _alpha_sigma(now.level), _alpha_sigma(level)
    return alpha_next * (now.z / alpha + (sigma_next / alpha_next - sigma / alpha) * now.eps)


def heun_slope(eps: Tensor, eps_next: Tensor) -> Tensor:
    """Heun's second-order slope: the mean of both ends of an Euler step (METHOD E16; Karras et al., Alg. 1).

    Both ends and the result ``batch channel *space``.
    """
    return (eps + eps_next) / 2


def dpmpp_2m_step(now: Estimate, before: Estimate | None, level: float) -> Tensor:
    """DPM-Solver++ 2M to the next level; first order at the start and onto a clean latent (METHOD E16; Alg. 2).

    The latent at ``level``, ``batch channel *space``.
    """
    (_, sigma), (alpha_next, sigma_next) = _alpha_sigma(now.level), _alpha_sigma(level)
    h = (level - now.level) / 2  # lambda is half the log-SNR
    d = now.clean
    if before is not None and math.isfinite(level):
        r = (now.level - before.level) / 2 / h
        d = d + (now.clean - before.clean) / (2 * r)
    return sigma_next / sigma * now.z - alpha_next * math.expm1(-h) * d


@dataclass(frozen=True, eq=False)
class _Known:
    """The newest estimate of a flow and the one before it."""

    latest: Estimate | None = None
    before: Estimate | None = None

    @property
    def now(self) -> Estimate:
        """The newest estimate; every flow has one after the first grid point."""
        if self.latest is None:
            raise ValueError("a flow was asked for its estimate before its first grid point")
        return self.latest


def _stepped(known: _Known, level: float, solver: Solver, eta: float, noise: Tensor | None) -> Tensor:
    if solver == "ddim":
        return ddim_step(known.now, level, eta, noise)
    if solver == "dpmpp_2m":
        return dpmpp_2m_step(known.now, known.before, level)
    return euler_step(known.now, level)


def _corrected(predict: Predict, known: list[_Known], following: dict[int, float]) -> list[_Known]:
    """Heun's second evaluation: all flows are seen at the level to which some step, and those are corrected."""
    corrected = list(known)
    for level in sorted({level for level in following.values() if level < math.inf}):
        due = tuple(flow for flow, level_next in following.items() if level_next == level)
        seen = tuple(one.now.at(level) for one in known)
        for flow, eps in zip(due, predict(seen, _scalars(level, seen), due), strict=True):
            now = known[flow].now
            corrected[flow] = _Known(Estimate(now.level, now.z, heun_slope(now.eps, eps)), known[flow].before)
    return corrected


def _alpha_sigma(level: float) -> tuple[float, float]:
    alpha, sigma = alpha_sigma(tensor(level).double())
    return float(alpha), float(sigma)


def _scalars(level: float, like: Latents) -> tuple[Tensor, ...]:
    return tuple(tensor(level).to(z.device) for z in like)


def _check(
    eta: float, solver: Solver, noise: Noise | None, points: Sequence[Sequence[int]] | None, flows: int, length: int
) -> None:
    if eta > 0 and solver != "ddim":
        raise UserError(f"solver '{solver}' draws no noise: set sampler.eta to 0, or take solver 'ddim' (eta {eta})")
    if eta > 0 and noise is None:
        raise ValueError("eta is above 0: give the noise to draw")
    for own in points or ():
        if own[0] != 0 or own[-1] != length - 1 or any(b <= a for a, b in pairwise(own)):
            raise ValueError(f"own grid points must rise from 0 to {length - 1}, found {tuple(own)}")
    if points is not None and len(points) != flows:
        raise ValueError(f"{flows} flows need as many rows of own grid points, found {len(points)}")
