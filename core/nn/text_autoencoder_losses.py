"""The terms of the text autoencoder's loss (METHOD E8)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from core.types import Posterior


def token_losses(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of each text, summed over its tokens (METHOD E8); float32 ``batch``.

    ``logits`` ``batch length vocabulary``, ``targets`` ids ``batch length``; padding, where ``mask`` is false, counts
    nothing.
    """
    found = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return found.view_as(targets).masked_fill(~mask, 0).sum(1)


def divergence_above(posterior: Posterior, free_bits: float) -> Tensor:
    """Divergence from the standard normal, of each feature at least ``free_bits`` nats (METHOD E8); ``batch``.

    A feature below that has no gradient: what little it tells costs nothing, and nothing pulls it to the prior.
    """
    return feature_divergence(posterior).clamp(min=free_bits).sum(1)


def feature_divergence(posterior: Posterior) -> Tensor:
    """KL divergence of each feature's posterior from the standard normal, nats; float32 ``batch width``."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def cyclical_beta(step: Tensor, cycle: int) -> Tensor:
    """Weight of the divergence in [0, 1] at a training step, counted from 0 (METHOD E8); 1 where ``cycle`` is 0.

    Half of the cycle 0, a quarter a straight climb, the last quarter 1.
    """
    if not cycle:
        return step.new_ones(step.shape).float()
    return (4 * (step % cycle) / cycle - 2).clamp(0, 1)
