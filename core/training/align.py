"""Phase ``align``: the rounds of the align flow, earlier weight sets frozen (method E2)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from core.align.train import AlignRound, train_round
from core.engine.rng import make_generator
from core.evaluate.retrieval import validation_recall
from core.evaluate.table import MetricRow
from core.flow.rounds import Round
from core.training.session import TrainingSession

_MOST_FOR_MEAN = 1024
_K = 5


def align(session: TrainingSession) -> None:
    """Train the prompt encoders round by round."""
    for step in session.run.rounds["align"]:
        session.stage("align", _name(step), step.trains, partial(_train, session, step))


def _name(step: Round) -> str:
    return f"{step.index} {step.edge.text}"


def _train(session: TrainingSession, step: Round) -> Iterator[MetricRow]:
    config = session.run.config
    if not step.trains:  # the edge closed a cycle: all of it is frozen
        yield from _recalls(session, step)
        return
    temperature = train_round(
        session.trainer,
        AlignRound(
            name=_name(step),
            encoders={name: session.bundle.part(name, "prompt") for name in step.modalities},
            trained={key: session.networks.of(key) for key in step.trains},
            pairs=step.edge.pairs,
            studies=session.cohort.training,
            training=config.training.align,
            choice=config.align,
            findings_of=session.cohort.findings_of,
            details_of=session.cohort.details_of,
        ),
    )
    for key in step.trains:
        means = {name: _mean_pooled(session, name) for name in session.networks.sets[key].owners}
        session.networks.save("align", key, temperature=temperature, means=means)
    yield from _recalls(session, step)


def _recalls(session: TrainingSession, step: Round) -> Iterator[MetricRow]:
    """Yield the validation recall of every pair that validation studies hold."""
    studies = session.cohort.held_out
    for first, second in step.edge.pairs:
        if studies.indices_with(first, second):
            recall, num = validation_recall(session.bundle, studies, first, second, _K)
            what = f"{first} → {second} retrieval, R@{_K}, held out"
            yield MetricRow("align", what, recall, f"chance {_K / max(_K, num):.3f}")


def _mean_pooled(session: TrainingSession, name: str) -> list[float]:
    """Return the mean pooled vector of a modality's training studies: what all have in common (method E6b)."""
    studies, encoder = session.cohort.training, session.bundle.part(name, "prompt")
    candidates, total = studies.indices_with(name), None
    generator = make_generator(session.run.config.seed, "mean prompt", name)
    order = torch.randperm(len(candidates), generator=generator).tolist()
    indices = [candidates[position] for position in order[:_MOST_FOR_MEAN]]
    for batch in studies.batches(name, indices):
        with torch.no_grad():
            pooled = encoder(session.compute.to_device(batch)).pooled.sum(0)
        total = pooled if total is None else total + pooled
    return [] if total is None else (total / len(indices)).tolist()
