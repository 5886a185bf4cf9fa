"""Phase ``align``: the rounds of the align flow, earlier weight sets frozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from core.align.train import AlignRound, train_round
from core.engine.rng import make_generator
from core.evaluate.retrieval import recall_at
from core.evaluate.table import MetricRow
from core.flow.rounds import Round
from core.training.session import TrainingSession

_MOST_FOR_MEAN = 1024


def align(session: TrainingSession) -> None:
    """Train the prompt encoders round by round."""
    for one in session.run.rounds("align"):
        session.stage("align", _name(one), one.trains, partial(_train, session, one))


def _name(one: Round) -> str:
    return f"{one.index} {one.edge.text}"


def _train(session: TrainingSession, one: Round) -> Iterator[MetricRow]:
    config = session.run.config
    if not one.trains:  # the edge closed a cycle: all of it is frozen
        yield from _retrievals(session, one)
        return
    temperature = train_round(
        session.trainer,
        AlignRound(
            name=_name(one),
            encoders={name: session.bundle.part(name, "prompt") for name in one.modalities},
            trained={key: session.networks.of(key) for key in one.trains},
            pairs=one.edge.pairs,
            studies=session.cohort.training,
            training=config.training.align,
            choice=config.align,
            findings_of=session.cohort.findings_of,
            details_of=session.cohort.details_of,
        ),
    )
    for key in one.trains:
        means = {name: _mean(session, name) for name in session.networks.sets[key].owners}
        session.networks.save("align", key, temperature=temperature, means=means)
    yield from _retrievals(session, one)


def _retrievals(session: TrainingSession, one: Round) -> Iterator[MetricRow]:
    for pair in one.edge.pairs:
        if session.cohort.held_out.indices_with(*pair):
            yield _retrieval(session, *pair)


def _mean(session: TrainingSession, name: str) -> list[float]:
    """The mean pooled vector of a modality's training studies: what all of them have in common (METHOD E6b)."""
    studies, encoder = session.cohort.training, session.bundle.part(name, "prompt")
    found, total = studies.indices_with(name), None
    order = torch.randperm(len(found), generator=make_generator(session.run.config.seed, "mean prompt", name)).tolist()
    indices = [found[index] for index in order[:_MOST_FOR_MEAN]]
    for batch in studies.batches(name, indices):
        with torch.no_grad():
            pooled = encoder(session.compute.to_device(batch)).pooled.sum(0)
        total = pooled if total is None else total + pooled
    return [] if total is None else (total / len(indices)).tolist()


def _pooled(session: TrainingSession, name: str, indices: Sequence[int]) -> Tensor:
    """Pooled vectors ``sample width`` of validation studies."""
    encoder = session.bundle.part(name, "prompt").eval()
    with torch.no_grad():
        batches = session.cohort.held_out.batches(name, indices)
        return torch.cat([encoder(session.compute.to_device(batch)).pooled for batch in batches])


def _retrieval(session: TrainingSession, first: str, second: str) -> MetricRow:
    studies = session.cohort.held_out
    indices = studies.indices_with(first, second)
    found = recall_at(*(_pooled(session, name, indices) for name in (first, second)), k=5)
    return MetricRow("align", f"{first} finds {second}: R@5, held out", found, f"chance {5 / max(5, len(indices)):.3f}")
