"""Stops a run at the first number that is not finite, and says which it was."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor
from torch.nn import Parameter

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
