"""What partners tell each other: the benefit matrix (METHOD F1, F4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import torch

from core.curriculum.measures.subjects import Subjects
from core.curriculum.table import Line, line
from core.evaluate.benefit import benefit
from core.generate.study import conditionings, encoded_latent
from core.guide.loss import FlowState

TIMESTEPS = (200, 500, 800)


def benefits(subjects: Subjects) -> Iterator[Line]:
    """For every ordered pair of outputs the share of the error that the true partner saves, with the null prompt."""
    names = [name for name in subjects.run.outputs if subjects.bundle.coupled(name)]
    met = {frozenset(pair) for pair in subjects.bundle.trained_pairs}
    for receiver, sender in permutations(names, 2):
        places = subjects.enough(receiver, sender)
        if not places:
            continue
        found = benefit(
            _state(subjects, receiver, places),
            _state(subjects, sender, places),
            TIMESTEPS,
            seed=subjects.seed,
            indices=places,
            patients=subjects.patients(places),
        )
        kind = "trained" if frozenset((receiver, sender)) in met else "zero-shot"
        middle = found[TIMESTEPS[1]]
        beside = ", ".join(f"at {step}: {one.over_other.value:+.4f} (t {one.t:.1f})" for step, one in found.items())
        what = f"{receiver} told by {sender}: error saved by the true partner, {kind}"
        yield line(what, middle.over_other, beside)


def _state(subjects: Subjects, name: str, places: Sequence[int]) -> FlowState:
    bundle = subjects.bundle
    bundle.sites(name)
    with torch.no_grad():
        latent = encoded_latent(bundle, name, subjects.studies.batch(name, list(places)))
        _, null = conditionings(bundle, name, {}, len(places))
    return FlowState(
        latent=latent,
        denoiser=bundle.part(name, "denoiser").eval(),
        environment=bundle.environment(name).eval(),
        conditioning=null,
    )
