"""Phase ``align``: one round of central alignment (METHOD E1-E3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.align.losses import info_nce
from core.engine.log import RunLog
from core.engine.loop import train_steps
from core.engine.seed import stream
from core.preprocess.studies import Studies
from core.preset import Training


def train_round(
    title: str,
    encoders: Mapping[str, Any],
    trained: Sequence[Any],
    pairs: Sequence[tuple[str, str]],
    studies: Studies,
    training: Training,
    *,
    temperature: float,
    seed: int,
    log: RunLog,
) -> float:
    """Contrast every pair of the round on studies that hold both; returns the temperature that was reached.

    ``encoders`` by modality; only the modules in ``trained`` are given to the optimiser, the others are frozen.
    """
    import torch

    logit_scale = torch.nn.Parameter(torch.tensor(math.log(1 / temperature)))
    for encoder in encoders.values():
        encoder.requires_grad_(any(encoder is module for module in trained))
        encoder.train(any(encoder is module for module in trained))

    shared = {pair: studies.require(*pair) for pair in pairs}

    def losses(step: int) -> Mapping[str, Any]:
        draws = stream(seed, "align", title, step)
        terms = {}
        for (first, second), places in shared.items():
            size = min(training.batch, len(places))
            chosen = [places[index] for index in torch.randperm(len(places), generator=draws)[:size].tolist()]
            a, b = (encoders[name](studies.batch(name, chosen)).pooled for name in (first, second))
            terms[f"contrast {first}-{second}"] = info_nce(a, b, logit_scale)
        return terms

    parameters = [*dict.fromkeys(p for module in trained for p in module.parameters()), logit_scale]
    samples = sum(map(len, shared.values()))
    train_steps(
        f"align {title}",
        parameters,
        losses,
        training,
        steps=training.num_steps(samples),
        learning_rate=training.learning_rate,
        log=log,
    )
    return float(torch.exp(-logit_scale.detach()))
