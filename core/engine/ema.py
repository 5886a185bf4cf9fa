"""Exponential moving average of what is trained; later phases, measures and bundles use it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """``average <- d average + (1 - d) weight`` after every step, with ``d = min(decay, (1 + t) / (10 + t))``.

    ``t`` counts updates from 0. The ramp lets a short run forget its random start; decay 0 copies the weights.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.weights, self.decay = dict(weights), decay
        self.average = {name: weight.detach().clone() for name, weight in weights.items()}

    def update(self, step: int) -> None:
        """Take in the weights as they are after step ``step``, which counts from 0."""
        kept = min(self.decay, (1 + step) / (10 + step))
        weights: list[Tensor] = [weight.detach() for weight in self.weights.values()]
        get_ema_multi_avg_fn(kept)([*self.average.values()], weights, step)

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Take over a stored average."""
        for name, value in self.average.items():
            value.copy_(average[name])

    def hand_over(self) -> None:
        """Put the average in the place of the weights."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.average[name])
