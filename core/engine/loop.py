"""The step loop that every phase shares; it stops at the first loss or gradient that is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from core.config.preset import Training, TrainingName
from core.engine.checkpoint import require_same_tensors
from core.engine.distributed import BatchShard, Compute
from core.engine.optimiser import (
    MovingAverage,
    averaged_tensors,
    decayed_parameters,
    load_moments,
    make_optimiser,
    moments,
    schedule,
)
from core.engine.rng import derived_seed
from core.errors import UserError

LossTerms = Mapping[str, Tensor]
Metrics = Mapping[str, float | Tensor]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One optimisation: of a weight set, or of a round.

    ``modules`` by weight set: those of their parameters that require a gradient are trained. ``losses(step, shard)``
    returns named terms, whose sum is minimised, and metrics for the log. It draws batch and noise of the whole step
    from generators that depend on the step alone, and computes the rows of its shard; so the step number is the
    position in the data. ``whole``: the terms compare all rows with each other, which rules out accumulation.
    ``divided``: processes on a CPU share each batch; otherwise the main one trains with all threads and the others get
    its weights, which is faster where a step computes little and has many weights to exchange.
    """

    phase: TrainingName
    name: str
    modules: Mapping[str, nn.Module]
    losses: Callable[[int, BatchShard], tuple[LossTerms, Metrics]]
    training: Training
    steps: int
    learning_rate: float
    whole: bool = False
    divided: bool = True

    @property
    def title(self) -> str:
        """The name of the stage in the log, in the progress and among the checkpoints."""
        return f"{self.phase} {self.name}"

    @property
    def parts(self) -> int:
        """The parts of a step in one process (gradient accumulation); `UserError` where the loss rules them out."""
        parts = self.training.accumulate
        if self.whole and parts > 1:
            raise UserError(
                f"{self.title}: compares all rows of a batch and cannot accumulate gradients; set"
                f" training.{self.phase}.accumulate=1, or use more processes"
            )
        return parts


class StepLoop:
    """A running stage: weights, optimiser, moving average, and the losses of the completed steps."""

    def __init__(self, stage: Stage, compute: Compute, seed: int) -> None:
        self.stage, self.compute, self.seed = stage, compute, seed
        for module in stage.modules.values():
            compute.to_device(module).train()
        self.parameters = dict(_trained(stage.modules))
        self.optimiser = make_optimiser(self.parameters, _decayed(stage.modules), stage.training, stage.learning_rate)
        self.average = MovingAverage(averaged_tensors(self.parameters, stage.modules), stage.training.ema)
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
        terms, metrics = self.gradients(step)
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in parameters if weight.grad is not None])
        # One transfer per step: reading a number from a device waits for it.
        loss, gradient_norm = torch.stack([torch.stack([*terms.values()]).sum(), norm]).tolist()
        require_finite(stage.title, step, (loss, gradient_norm), terms, self.parameters)
        torch.nn.utils.clip_grads_with_norm_(parameters, stage.training.clip, norm)
        rate = stage.learning_rate * schedule(step, stage.steps, stage.training.warmup, stage.training.schedule)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.average.update(step)
        self.totals.append(loss)
        self.row = {"loss": loss, "gradient_norm": gradient_norm, "learning_rate": rate, **terms, **metrics}
        return loss

    def gradients(self, step: int) -> tuple[LossTerms, Metrics]:
        """Compute the gradients of the whole batch; return its loss terms, and metrics for the log."""
        self.optimiser.zero_grad(set_to_none=True)
        parts, by_part, metrics = self.stage.parts, [], {}
        for part in range(parts):
            shard = BatchShard(self.compute.index * parts + part, self.compute.count * parts)
            with self.compute.no_sync(self.losses, last=part == parts - 1):
                terms, metrics = self.losses(step, shard)
                (torch.stack([*terms.values()]).sum() / parts).backward()
            by_part.append({name: value.detach() for name, value in terms.items()})
        means = self.compute.mean(torch.stack([torch.stack([*terms.values()]) for terms in by_part]).mean(0))
        return dict(zip(by_part[0], means.unbind(), strict=True)), metrics

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that the next step depends on, and the losses so far."""
        return {
            **_with_prefix("weights", self._weights()),
            **_with_prefix("moments", moments(self.optimiser)),
            **_with_prefix("average", self.average.average),
            "losses": torch.tensor(self.totals, dtype=torch.float64),
        }

    def restore(self, state: Mapping[str, Tensor], where: Path) -> None:
        """Restore what `state` returned; `UserError` where it belongs to other networks."""
        stored, weights = _without_prefix("weights", state), self._weights()
        require_same_tensors(stored, weights, where)
        with torch.no_grad():
            for name, value in weights.items():
                value.copy_(stored[name])
        load_moments(self.optimiser, _without_prefix("moments", state))
        self.average.load(_without_prefix("average", state))
        self.totals = state["losses"].tolist()

    def finish(self) -> None:
        """Copy the moving average to the modules and set them to evaluation mode."""
        self.average.copy_to_model()
        for module in self.stage.modules.values():
            module.eval()
        self.compute.forget()

    def _weights(self) -> dict[str, Tensor]:
        modules = self.stage.modules.items()
        return {f"{key}.{name}": value for key, module in modules for name, value in module.state_dict().items()}


class _Losses(nn.Module):
    """The losses of a stage as one module, as the averaging of gradients over processes requires."""

    def __init__(self, stage: Stage, compute: Compute, seed: int) -> None:
        super().__init__()
        self.stage, self.device, self.seed = stage, compute.device, seed
        self.trained = nn.ModuleList(stage.modules.values())

    def forward(self, step: int, shard: BatchShard) -> tuple[dict[str, Tensor], Metrics]:
        stage = self.stage
        # Dropout draws from torch's global random state: seeded at every step, a resumed run draws the same.
        torch.manual_seed(derived_seed(self.seed, "dropout", stage.title, step, shard.index))
        bf16 = stage.training.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            terms, metrics = stage.losses(step, shard)
        return {name: value.float() for name, value in terms.items()}, metrics


def _trained(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield name and value of every trained parameter; one that two modules share is yielded once."""
    seen: set[int] = set()
    for key, module in modules.items():
        for name, weight in module.named_parameters():
            if weight.requires_grad and id(weight) not in seen:
                seen.add(id(weight))
                yield f"{key}.{name}", weight


def _decayed(modules: Mapping[str, nn.Module]) -> set[str]:
    """Return the names, as in `_trained`, of the parameters that weight decay may shrink."""
    return {f"{key}.{name}" for key, module in modules.items() for name in decayed_parameters(module)}


def _with_prefix(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": torch.as_tensor(value) for name, value in tensors.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def require_finite(
    title: str, step: int, values: tuple[float, float], terms: Mapping[str, Tensor], gradients: Mapping[str, Parameter]
) -> None:
    """Raise `UserError` where a step's loss or gradient norm (``values``) is not finite.

    The message names the first loss term that is not, or else the first parameter whose gradient is not.
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
