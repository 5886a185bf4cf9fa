"""What an autoencoder keeps of an image: PSNR, SSIM and mean absolute error (METHOD 6)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from core.errors import UserError
from core.evaluate.interval import Interval, mean_interval

DATA_RANGE = 2.0  # of canonical grids, in [-1, 1]
_LEAST = 6  # SSIM's window has 11 points, and its border is mirrored: an axis needs more than half of it


def reconstruction_errors(real: Tensor, made: Tensor, *, batch: int = 64) -> dict[str, np.ndarray]:
    """``psnr_db``, ``ssim`` and ``mae`` of every sample, float64 ``sample``.

    Both ``sample channel *space`` in [-1, 1], 2-D or 3-D, in the same order. PSNR is infinite where both are equal.
    Raises `UserError` for images that differ in shape or are too small for SSIM.
    """
    if real.shape != made.shape or real.ndim not in (4, 5) or min(real.shape[2:]) < _LEAST:
        raise UserError(
            f"images are compared that have one shape, 2-D or 3-D, and {_LEAST} points or more along each axis; "
            f"found {tuple(real.shape)} and {tuple(made.shape)}"
        )
    parts = [_errors(*pair) for pair in zip(real.split(batch), made.split(batch), strict=True)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def reconstruction(
    real: Tensor, made: Tensor, *, patients: Sequence[Hashable] | None = None, seed: int = 0
) -> dict[str, Interval]:
    """The means of `reconstruction_errors` with their intervals by patient."""
    errors = reconstruction_errors(real, made)
    return {name: mean_interval(values, patients, seed=seed) for name, values in errors.items()}


@torch.no_grad()
def _errors(real: Tensor, made: Tensor) -> dict[str, np.ndarray]:
    real, made = real.double().cpu(), made.double().cpu()
    axes = tuple(range(1, real.ndim))
    found = {
        "psnr_db": peak_signal_noise_ratio(made, real, data_range=DATA_RANGE, reduction="none", dim=axes),
        "ssim": structural_similarity_index_measure(made, real, data_range=DATA_RANGE, reduction="none"),
        "mae": (made - real).abs().mean(axes),
    }
    return {name: np.atleast_1d(np.asarray(value)) for name, value in found.items()}
