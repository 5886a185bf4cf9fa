"""The master grid of noise levels on which all flows step together (METHOD E16)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from core.errors import UserError
from core.nn import NUM_TIMESTEPS, log_snr_of_timestep

Spacing = Literal["trailing", "leading", "linspace"]


def master_grid(steps: int, spacing: Spacing = "trailing") -> Tensor:
    """Log-SNR of ``steps`` decreasing noise levels, and +inf, a clean latent, as the last: float32 ``steps + 1``.

    ``trailing`` ends on the noisiest timestep that training has seen (999, 979, ...); ``leading`` is that of the
    published Stable Diffusion (981, ..., 1); ``linspace`` has both ends. METHOD E16. Raises `UserError` unless
    ``steps`` is between 1 and 1000.
    """
    if not 1 <= steps <= NUM_TIMESTEPS:
        raise UserError(f"the number of sampling steps must be between 1 and {NUM_TIMESTEPS}, found {steps}")
    stride = NUM_TIMESTEPS / steps
    if spacing == "trailing":
        timesteps = (NUM_TIMESTEPS - torch.arange(steps) * stride).round() - 1
    elif spacing == "leading":
        offset = int(steps < NUM_TIMESTEPS)
        timesteps = torch.arange(steps).flip(0) * math.floor(stride) + offset
    else:
        timesteps = torch.linspace(0, NUM_TIMESTEPS - 1, steps).round().flip(0)
    return torch.cat([log_snr_of_timestep(timesteps), torch.tensor([torch.inf])])


def own_points(num: int, steps: int) -> tuple[int, ...]:
    """Places of the ``steps + 1`` grid points of a coarser flow among the ``num + 1`` of the master grid.

    The first and the last are shared, the others spread evenly (METHOD E16). Raises `UserError` for more steps than
    the master grid has.
    """
    if not 1 <= steps <= num:
        raise UserError(f"a flow takes between 1 and the master grid's {num} steps, found {steps}")
    return tuple(round(point * num / steps) for point in range(steps + 1))
