"""Optimiser, learning-rate schedule and exponential moving average of the weights.

Later phases, metrics and bundles use the moving average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from core.config.preset import Training
from core.errors import UserError


def schedule(step: int, steps: int, warmup: int) -> float:
    """Return the factor on the learning rate: linear warm-up over ``warmup`` steps, then a half cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def make_optimiser(parameters: list[Parameter], training: Training, learning_rate: float) -> Optimizer:
    """Return Adam or AdamW for the parameters; `UserError` where there are none to train."""
    if not parameters:
        raise UserError("nothing to train: every weight of this phase is frozen")
    kind = torch.optim.Adam if training.optimiser == "adam" else torch.optim.AdamW
    # One pass over all weights; torch offers it for these two devices.
    fused = all(weight.device.type in ("cpu", "cuda") for weight in parameters)
    return kind(parameters, lr=learning_rate, weight_decay=training.weight_decay, fused=fused)


def moments(optimiser: Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Return the optimiser's tensors as ``<parameter>/<moment>``; ``names`` in the order of its parameters.

    A parameter that no step has reached yet has none.
    """
    state = optimiser.state_dict()["state"]
    return {f"{names[index]}/{name}": value for index, entry in state.items() for name, value in entry.items()}


def load_moments(optimiser: Optimizer, names: list[str], stored: Mapping[str, Tensor]) -> None:
    """Restore the tensors that `moments` returned."""
    indices = {name: index for index, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in stored.items():
        name, _, moment = key.rpartition("/")
        state.setdefault(indices[name], {})[moment] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


class MovingAverage:
    """``average <- d average + (1 - d) weight`` after every step, with ``d = min(decay, (1 + t) / (10 + t))``.

    ``t`` counts updates from 0. The ramp lets a short run forget its random start; decay 0 copies the weights.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.weights, self.decay = dict(weights), decay
        self.average = {name: weight.detach().clone() for name, weight in weights.items()}

    def update(self, step: int) -> None:
        """Update the average with the weights after step ``step``, which counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights: list[Tensor] = [weight.detach() for weight in self.weights.values()]
        get_ema_multi_avg_fn(decay)([*self.average.values()], weights, step)

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Restore a stored average."""
        for name, value in self.average.items():
            value.copy_(average[name])

    def copy_to_model(self) -> None:
        """Overwrite the weights of the model with the average."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.average[name])
