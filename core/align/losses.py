"""Losses of the shared space: contrast (METHOD E1), with soft targets and findings too, and visual invariance (E3).

The learnable temperature of the contrast (METHOD E1; CLIP).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def info_nce(a: Tensor, b: Tensor, logit_scale: Tensor, equal: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE, both directions summed (METHOD E1; MedM2G Eq. 3, CoDi_XR Eq. 1, MedCoDi-M Eq. 4).

    ``a`` and ``b`` ``batch width`` of unit norm, row ``i`` of one belongs to row ``i`` of the other; ``logit_scale`` is
    the logarithm of 1 / temperature. ``equal`` (bool ``batch batch``): pairs that say the same ("no acute process")
    and so are no negatives of each other; the diagonal is ignored. The result is a scalar.
    """
    import torch
    import torch.nn.functional as F

    logits = _logits(a, b, logit_scale)
    if equal is not None:
        off_diagonal = ~torch.eye(len(a), dtype=torch.bool, device=a.device)
        logits = logits.masked_fill(equal & off_diagonal, float("-inf"))
    target = torch.arange(len(a), device=a.device)
    return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)


def semantic_matching(a: Tensor, b: Tensor, logit_scale: Tensor, similarity: Tensor, temperature: float) -> Tensor:
    """InfoNCE with soft targets, both directions summed (METHOD E1; MedCLIP, Wang et al. 2022, semantic matching loss).

    As `info_nce`, but a row is to find what says the same as its partner in proportion to ``softmax(similarity /
    temperature)``; ``similarity`` ``batch batch``, symmetric, 1 for studies that say the same. The lower the
    ``temperature`` of the targets and the less similar the studies, the nearer it is to `info_nce`.
    """
    import torch.nn.functional as F

    logits = _logits(a, b, logit_scale)
    target = F.softmax(similarity / temperature, dim=1)
    return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)


def _logits(a: Tensor, b: Tensor, logit_scale: Tensor) -> Tensor:
    """Cosines over the temperature, within CLIP's bounds."""
    return a @ b.T * logit_scale.clamp(0, math.log(100)).exp()


def finding_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over the known labels; 0 where none is known.

    Of what pooled vectors tell of findings, beside the contrast (METHOD E1; ours, docs/decisions/0017), and of judges.
    Both ``batch finding``; a label is 1 present, 0 absent, NaN unknown.
    """
    import torch.nn.functional as F

    known = ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.0).to(logits), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def barlow_twins(z1: Tensor, z2: Tensor, off_diagonal_weight: float = 0.0051) -> Tensor:
    """Visual invariance (METHOD E3; MedM2G Eq. 4), ``(1/D) {sum (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2}``.

    ``z1`` and ``z2`` ``batch width``: embeddings of two views, in the same order. C is their correlation over the
    batch. Without 1/D the term is hundreds of times the contrast. Computed in float32.
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
    """``logit_scale``, the logarithm of 1 / temperature, trained with a round."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / start)))

    def bound(self) -> None:
        """Put it back into CLIP's bounds, 1 to 0.01; to be called before a step, as CLIP does after one."""
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))

    @property
    def value(self) -> float:
        """The temperature as it is now."""
        return float(torch.exp(-self.logit_scale.detach()))
