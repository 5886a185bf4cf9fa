"""The step loop that every phase shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.engine.log import RunLog
from core.errors import UserError
from core.preset import Training

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer

Losses = Mapping[str, "Tensor"]


def train_steps(
    title: str,
    parameters: Iterable[Parameter],
    losses: Callable[[int], Losses],
    training: Training,
    *,
    steps: int,
    learning_rate: float,
    log: RunLog,
    log_every: int = 20,
) -> list[float]:
    """Minimise the sum of the named losses of each step; returns the total of every step.

    ``losses(step)`` draws its own batch and noise from streams that depend on the step alone. The learning rate warms
    up linearly, then follows a cosine to zero. A loss that is not finite stops the run and names term and step.
    """
    import torch

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = _optimizer(trained, training, learning_rate)
    totals = []
    with _progress() as progress:
        bar = progress.add_task(title, total=steps, loss=math.nan)
        for step in range(steps):
            terms = losses(step)
            total = torch.stack(list(terms.values())).sum()
            _refuse_not_finite(title, step, terms)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * schedule(step, steps, training.warmup)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, training.clip)
            optimizer.step()
            totals.append(float(total.detach()))
            if step % log_every == 0 or step == steps - 1:
                values = {name: float(value.detach()) for name, value in terms.items()}
                log.write(phase=title, step=step, loss=totals[-1], gradient_norm=float(norm), **values)
            progress.update(bar, advance=1, loss=totals[-1])
    return totals


def schedule(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate: linear warm-up over ``warmup`` steps, then a half cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _optimizer(trained: list[Parameter], training: Training, learning_rate: float) -> Optimizer:
    import torch

    if not trained:
        raise UserError("nothing to train: every weight of this phase is frozen")
    if training.optimiser == "adam":
        return torch.optim.Adam(trained, lr=learning_rate, weight_decay=training.weight_decay)
    return torch.optim.AdamW(trained, lr=learning_rate, weight_decay=training.weight_decay)


def _refuse_not_finite(title: str, step: int, terms: Losses) -> None:
    for name, value in terms.items():
        if not bool(value.detach().isfinite()):
            raise UserError(
                f"{title}: the loss '{name}' is {float(value.detach())} at step {step}; lower the learning rate "
                "(--set training.PHASE.learning_rate=...) or look at the data with core.check"
            )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        console=Console(stderr=True),
    )
