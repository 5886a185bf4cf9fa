"""What partners tell each other: the benefit matrix (METHOD F1, F4)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from core.curriculum.listening import TIMESTEPS, flow_state
from core.curriculum.measures.subjects import Subjects
from core.curriculum.table import Line, line
from core.evaluate.benefit import benefit


def benefits(subjects: Subjects) -> Iterator[Line]:
    """For every ordered pair of outputs the share of the error that the true partner saves, with the null prompt."""
    names = [name for name in subjects.run.outputs if subjects.bundle.coupled(name)]
    met = {frozenset(pair) for pair in subjects.bundle.trained_pairs}
    for receiver, sender in permutations(names, 2):
        places = subjects.enough(receiver, sender)
        if not places:
            continue
        found = benefit(
            flow_state(subjects.bundle, subjects.studies, receiver, places),
            flow_state(subjects.bundle, subjects.studies, sender, places),
            TIMESTEPS,
            seed=subjects.seed,
            indices=places,
            patients=subjects.patients(places),
        )
        kind = "trained" if frozenset((receiver, sender)) in met else "zero-shot"
        middle = found[TIMESTEPS[1]]
        beside = ", ".join(f"at {step}: {one.over_other.value:+.4f} (t {one.t:.1f})" for step, one in found.items())
        what = f"{receiver} told by {sender}: error saved by the true partner, {kind}"
        yield line(what, middle.over_other, f"{beside}; beside none {middle.over_alone.value:+.4f}")
