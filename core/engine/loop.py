"""The step loop that every phase shares.

Stops a run at the first number that is not finite, and says which it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from core.config.preset import Phase, Training
from core.engine.checkpoint import require_fit
from core.engine.distributed import BatchShard, Compute
from core.engine.optimiser import MovingAverage, load_moments, make_optimiser, moments, schedule
from core.engine.rng import derived_seed
from core.errors import UserError


def require_finite(
    title: str, step: int, values: tuple[float, float], terms: Mapping[str, Tensor], gradients: Mapping[str, Parameter]
) -> None:
    """`UserError` where a step's loss or gradient norm (``values``) is not finite.

    Names the first loss term that is not, or else the first parameter whose gradient is not.
    """
    if all(map(math.isfinite, values)):
        return
    cause = _first_term(terms) or _first_gradient(gradients) or f"the gradient norm is {values[1]}"
    raise UserError(
        f"{title}: {cause} at step {step}; lower the learning rate (--set training.PHASE.learning_rate=...) or look at"
        " the data with core.check"
    )


def _first_term(terms: Mapping[str, Tensor]) -> str | None:
    for name, value in terms.items():
        if not math.isfinite(float(value)):
            return f"the loss '{name}' is {float(value)}"
    return None


def _first_gradient(gradients: Mapping[str, Parameter]) -> str | None:
    for name, weight in gradients.items():
        if weight.grad is not None and not bool(weight.grad.isfinite().all()):
            return f"the gradient of '{name}' is not finite"
    return None


LossTerms = Mapping[str, Tensor]
Metrics = Mapping[str, float | Tensor]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is minimised in one go: a weight set, or a round.

    ``modules`` by weight set: what of them requires a gradient is trained. ``losses(step, share)`` gives named terms,
    whose sum is minimised, and notes for the log. It draws batch and noise of the whole step from streams that depend
    on the step alone, and computes the rows of its share; so the number of the step is the position in the data.
    ``whole``: the terms compare all rows with each other, which rules out accumulation.
    """

    phase: Phase
    name: str
    modules: Mapping[str, nn.Module]
    losses: Callable[[int, BatchShard], tuple[LossTerms, Metrics]]
    training: Training
    steps: int
    learning_rate: float
    whole: bool = False

    @property
    def title(self) -> str:
        """Its name in the log, in the progress and among the checkpoints."""
        return f"{self.phase} {self.name}"

    @property
    def parts(self) -> int:
        """Parts in which a process computes its rows of a step (gradient accumulation)."""
        parts = self.training.accumulate
        if self.whole and parts > 1:
            raise UserError(
                f"{self.title}: compares the whole batch with itself and cannot accumulate; set"
                f" training.{self.phase}.accumulate=1, or use more processes"
            )
        return parts


class StepLoop:
    """A stage under way: weights, optimiser, moving average, and the losses of the steps that were done."""

    def __init__(self, stage: Stage, compute: Compute, seed: int) -> None:
        self.stage, self.compute = stage, compute
        for module in stage.modules.values():
            compute.to_device(module).train()
        self.parameters = dict(_trained(stage.modules))
        self.optimiser = make_optimiser([*self.parameters.values()], stage.training, stage.learning_rate)
        self.average = MovingAverage(self.parameters, stage.training.ema)
        self.losses = compute.shared(_Losses(stage, compute, seed))
        self.totals: list[float] = []
        self.row: dict[str, float | Tensor] = {}

    @property
    def step(self) -> int:
        """The next step, from 0."""
        return len(self.totals)

    def advance(self) -> float:
        """Do one step and return its loss, the sum of all terms; `UserError` where a number is not finite."""
        stage, step, parameters = self.stage, self.step, [*self.parameters.values()]
        terms, notes = self.gradients(step)
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in parameters if weight.grad is not None])
        # One transfer per step: whoever reads a number from a device waits for it.
        loss, gradient_norm = torch.stack([torch.stack([*terms.values()]).sum(), norm]).tolist()
        require_finite(stage.title, step, (loss, gradient_norm), terms, self.parameters)
        torch.nn.utils.clip_grads_with_norm_(parameters, stage.training.clip, norm)
        rate = stage.learning_rate * schedule(step, stage.steps, stage.training.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.average.update(step)
        self.totals.append(loss)
        self.row = {"loss": loss, "gradient_norm": gradient_norm, "learning_rate": rate, **terms, **notes}
        return loss

    def gradients(self, step: int) -> tuple[LossTerms, Metrics]:
        """Put the gradients of the whole batch into the parameters; returns the terms over the whole batch."""
        self.optimiser.zero_grad(set_to_none=True)
        parts, found, notes = self.stage.parts, [], {}
        for part in range(parts):
            shard = BatchShard(self.compute.index * parts + part, self.compute.count * parts)
            with self.compute.no_sync(self.losses, last=part == parts - 1):
                terms, notes = self.losses(step, shard)
                (torch.stack([*terms.values()]).sum() / parts).backward()
            found.append({name: value.detach() for name, value in terms.items()})
        means = self.compute.mean(torch.stack([torch.stack([*terms.values()]) for terms in found]).mean(0))
        return dict(zip(found[0], means.unbind(), strict=True)), notes

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on, and the losses so far."""
        return {
            **_under("weights", self._weights()),
            **_under("moments", moments(self.optimiser, [*self.parameters])),
            **_under("average", self.average.average),
            "losses": torch.tensor(self.totals, dtype=torch.float64),
        }

    def restore(self, state: Mapping[str, Tensor], where: Path) -> None:
        """Take over what `state` gave; `UserError` where it belongs to other networks."""
        weights, own = _below("weights", state), self._weights()
        require_fit(weights, own, where)
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(weights[name])
        load_moments(self.optimiser, [*self.parameters], _below("moments", state))
        self.average.load(_below("average", state))
        self.totals = state["losses"].tolist()

    def finish(self) -> None:
        """Leave the moving average in the modules, ready to be used."""
        self.average.copy_to_model()
        for module in self.stage.modules.values():
            module.eval()
        self.compute.forget()

    def _weights(self) -> dict[str, Tensor]:
        modules = self.stage.modules.items()
        return {f"{key}.{name}": value for key, module in modules for name, value in module.state_dict().items()}


class _Losses(nn.Module):
    """The losses of a stage as one module, which is what averaging of gradients over processes is made for."""

    def __init__(self, stage: Stage, compute: Compute, seed: int) -> None:
        super().__init__()
        self.stage, self.device, self.seed = stage, compute.device, seed
        self.trained = nn.ModuleList(stage.modules.values())

    def forward(self, step: int, shard: BatchShard) -> tuple[dict[str, Tensor], Metrics]:
        stage = self.stage
        # Dropout draws from torch's own stream: given a start per step, a resumed run draws the same.
        torch.manual_seed(derived_seed(self.seed, "dropout", stage.title, step, shard.index))
        bf16 = stage.training.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            terms, notes = stage.losses(step, shard)
        return {name: value.float() for name, value in terms.items()}, notes


def _trained(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    """Name and value of every trained parameter; one that two modules share comes once."""
    seen: set[int] = set()
    for key, module in modules.items():
        for name, weight in module.named_parameters():
            if weight.requires_grad and id(weight) not in seen:
                seen.add(id(weight))
                yield f"{key}.{name}", weight


def _under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": torch.as_tensor(value) for name, value in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
