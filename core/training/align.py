"""Phase ``align``: the rounds of the align flow, earlier weight sets frozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from core.align.train import Alignment, train_round
from core.engine.rng import stream
from core.evaluate.retrieval import recall_at
from core.evaluate.table import Line
from core.flow.rounds import Round
from core.training.session import Course

_MOST_FOR_MEAN = 1024


def align(course: Course) -> None:
    """Train the prompt encoders round by round."""
    for one in course.run.rounds("align"):
        course.stage("align", _name(one), one.trains, partial(_train, course, one))


def _name(one: Round) -> str:
    return f"{one.index} {one.edge.text}"


def _train(course: Course, one: Round) -> Iterator[Line]:
    config = course.run.config
    if not one.trains:  # the edge closed a cycle: all of it is frozen
        yield from _retrievals(course, one)
        return
    temperature = train_round(
        course.trainer,
        Alignment(
            name=_name(one),
            encoders={name: course.bundle.part(name, "prompt") for name in one.modalities},
            trained={key: course.networks.of(key) for key in one.trains},
            pairs=one.edge.pairs,
            studies=course.cohort.training,
            training=config.training.align,
            choice=config.align,
            findings_of=course.cohort.findings_of,
            details_of=course.cohort.details_of,
        ),
    )
    for key in one.trains:
        means = {name: _mean(course, name) for name in course.networks.sets[key].owners}
        course.networks.save("align", key, temperature=temperature, means=means)
    yield from _retrievals(course, one)


def _retrievals(course: Course, one: Round) -> Iterator[Line]:
    for pair in one.edge.pairs:
        if course.cohort.held_out.indices_with(*pair):
            yield _retrieval(course, *pair)


def _mean(course: Course, name: str) -> list[float]:
    """The mean pooled vector of a modality's training studies: what all of them have in common (METHOD E6b)."""
    studies, encoder = course.cohort.training, course.bundle.part(name, "prompt")
    found, total = studies.indices_with(name), None
    order = torch.randperm(len(found), generator=stream(course.run.config.seed, "mean prompt", name)).tolist()
    places = [found[index] for index in order[:_MOST_FOR_MEAN]]
    for batch in studies.batches(name, places):
        with torch.no_grad():
            pooled = encoder(course.compute.to_device(batch)).pooled.sum(0)
        total = pooled if total is None else total + pooled
    return [] if total is None else (total / len(places)).tolist()


def _pooled(course: Course, name: str, places: Sequence[int]) -> Tensor:
    """Pooled vectors ``sample width`` of validation studies."""
    encoder = course.bundle.part(name, "prompt").eval()
    with torch.no_grad():
        batches = course.cohort.held_out.batches(name, places)
        return torch.cat([encoder(course.compute.to_device(batch)).pooled for batch in batches])


def _retrieval(course: Course, first: str, second: str) -> Line:
    studies = course.cohort.held_out
    places = studies.indices_with(first, second)
    found = recall_at(*(_pooled(course, name, places) for name in (first, second)), k=5)
    return Line("align", f"{first} finds {second}: R@5, held out", found, f"chance {5 / max(5, len(places)):.3f}")
