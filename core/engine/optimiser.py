"""Optimiser, learning-rate schedule and exponential moving average of the weights.

Later phases, metrics and bundles use the moving average.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from core.config.preset import Schedule, Training
from core.errors import UserError

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _NormBase)


def schedule(step: int, steps: int, warmup: int, kind: Schedule = "cosine") -> float:
    """Return the factor on the learning rate at a step, counted from 0.

    It rises linearly over ``warmup`` steps. Then it falls to 0 as a half cosine, or stays 1 (``constant``; MediSyn).
    """
    if step < warmup:
        return (step + 1) / warmup
    if kind == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def make_optimiser(
    parameters: Mapping[str, Parameter], decayed: Collection[str], training: Training, learning_rate: float
) -> Optimizer:
    """Return the optimiser of the named parameters, with the decay of ``training`` on the ``decayed`` ones only.

    Both names of `Training.optimiser` are this one update: with a decay of 0, which is the default of ``adam``, AdamW
    is Adam. A decay always works on the weight itself (Loshchilov and Hutter 2019, Algorithm 2). As an L2 term of the
    gradient it would be divided by the gradient's size, and shrink weights of small gradients fastest
    (docs/decisions/0021-numerics.md).

    Raises `UserError` where there are no parameters.
    """
    if not parameters:
        raise UserError("nothing to train: every weight of this phase is frozen")
    split: dict[bool, list[tuple[str, Parameter]]] = {True: [], False: []}
    for name, weight in parameters.items():
        split[name in decayed].append((name, weight))
    decay_of = {True: training.decay, False: 0.0}
    groups = [{"params": named, "weight_decay": decay_of[key]} for key, named in split.items() if named]
    # One pass over all weights; torch offers it for these two devices.
    fused = all(weight.device.type in ("cpu", "cuda") for weight in parameters.values())
    return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)


def decayed_parameters(module: nn.Module) -> set[str]:
    """Return the names of the module's parameters that weight decay may shrink: matrices and kernels of layers.

    These are tensors of two or more axes that are called a weight and belong neither to an embedding nor to a
    normalisation. Biases, gains, temperatures, learned tokens and tables of positions keep their size: their size is
    what they say. A weight that an embedding shares with another layer counts as an embedding.
    """
    names: set[str] = set()
    spared: set[int] = set()
    for prefix, layer in module.named_modules():
        plain = isinstance(layer, (*_EMBEDDINGS, *_NORMS))
        for name, weight in layer.named_parameters(recurse=False):
            if plain:
                spared.add(id(weight))
            elif weight.ndim > 1 and "weight" in name:
                names.add(f"{prefix}.{name}" if prefix else name)
    shared = {name for name, weight in module.named_parameters(remove_duplicate=False) if id(weight) in spared}
    return names - shared


def parameter_names(optimiser: Optimizer) -> list[str]:
    """Return the names of the optimiser's parameters in the order of its state."""
    return [name for group in optimiser.param_groups for name in group["param_names"]]


def moments(optimiser: Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's tensors as ``<parameter>/<moment>``.

    A parameter that no step has reached yet has none.
    """
    state, names = optimiser.state_dict()["state"], parameter_names(optimiser)
    return {f"{names[index]}/{name}": value for index, entry in state.items() for name, value in entry.items()}


def load_moments(optimiser: Optimizer, stored: Mapping[str, Tensor]) -> None:
    """Restore the tensors that `moments` returned, in the memory order of the weights.

    Files hold tensors in the order of their axes. The fused update walks through memory: it would pair the moments of a
    channels-last kernel with other elements of it.
    """
    weights = {name: weight for group in optimiser.param_groups for name, weight in _named(group)}
    indices = {name: index for index, name in enumerate(weights)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in stored.items():
        name, _, moment = key.rpartition("/")
        if value.shape == weights[name].shape:
            value = torch.empty_like(weights[name], dtype=value.dtype, device=value.device).detach().copy_(value)
        state.setdefault(indices[name], {})[moment] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _named(group: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    return zip(group["param_names"], group["params"], strict=True)


def averaged_tensors(parameters: Mapping[str, Parameter], modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the parameters, and the floating-point buffers of the modules' state by ``<module>.<buffer>``.

    Running statistics of a batch normalisation belong to the weights that made them: averaged weights with the last
    statistics would be a network that no step has seen.
    """
    buffers = {
        f"{key}.{name}": value
        for key, module in modules.items()
        for name, value in module.state_dict(keep_vars=True).items()
        if not isinstance(value, Parameter) and value.is_floating_point()
    }
    return {**parameters, **buffers}


class MovingAverage:
    """``average <- d average + (1 - d) weight`` after every step, with ``d = min(decay, (1 + t) / (10 + t))``.

    ``t`` counts updates from 0. The ramp lets a short run forget its random start; decay 0 copies the weights.
    ``weights``: the trained parameters, and the statistics that belong to them (`averaged_tensors`).
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
