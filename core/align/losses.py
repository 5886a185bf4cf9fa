"""Losses of the shared space: contrast (method E1) with its temperature, and visual invariance (E3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def info_nce(a: Tensor, b: Tensor, logit_scale: Tensor, equal: Tensor | None = None) -> Tensor:
    """Return the symmetric InfoNCE, both directions summed (method E1; MedM2G Eq. 3, CoDi_XR Eq. 1, MedCoDi-M Eq. 4).

    ``a`` and ``b`` ``batch width`` of unit norm, row ``i`` of one belongs to row ``i`` of the other; ``logit_scale`` is
    the logarithm of 1 / temperature. ``equal`` (bool ``batch batch``): pairs of equal content ("no acute
    process"), which are no negatives of each other; the diagonal is ignored. The result is a scalar.
    """
    import torch
    import torch.nn.functional as F

    logits = scaled_cosines(a, b, logit_scale)
    if equal is not None:
        off_diagonal = ~torch.eye(len(a), dtype=torch.bool, device=a.device)
        logits = logits.masked_fill(equal & off_diagonal, float("-inf"))
    target = torch.arange(len(a), device=a.device)
    return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)


def scaled_cosines(a: Tensor, b: Tensor, logit_scale: Tensor) -> Tensor:
    """Return the cosines over the temperature, within CLIP's bounds, ``row column``; ``a`` ``row width`` of unit norm.

    ``b`` ``column width`` of unit norm.
    """
    return a @ b.T * logit_scale.clamp(0, math.log(100)).exp()


def barlow_twins(z1: Tensor, z2: Tensor, off_diagonal_weight: float = 0.0051) -> Tensor:
    """Return the invariance loss (method E3; MedM2G Eq. 4), ``(1/D) {sum (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2}``.

    ``z1`` and ``z2`` ``batch width``: embeddings of two views, in the same order. C is their correlation over the
    batch. Without 1/D the term is hundreds of times as large as the contrast. Computed in float32.
    """
    z1, z2 = _standardised(z1.float()), _standardised(z2.float())
    n, d = z1.shape
    c = z1.T @ z2 / n
    on_diagonal = (1 - c.diagonal()).square().sum()
    off_diagonal = c.square().sum() - c.diagonal().square().sum()
    return (on_diagonal + off_diagonal_weight * off_diagonal) / d


def _standardised(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / z.std(0, correction=0).clamp(min=1e-5)


class Temperature(nn.Module):
    """The learnable temperature of the contrast (method E1; CLIP): ``logit_scale`` is the logarithm of its inverse."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / start)))

    def bound(self) -> None:
        """Clamp it to CLIP's bounds, 1 to 0.01; call this before a step, where CLIP does it after one."""
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))

    @property
    def value(self) -> float:
        """The current temperature."""
        return float(torch.exp(-self.logit_scale.detach()))
