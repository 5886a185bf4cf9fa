"""Do outputs that were generated together show one patient? Joint, independent, shuffled partners (METHOD 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from core.curriculum.measures.subjects import Subjects
from core.curriculum.table import Line, line
from core.evaluate.coherence import coherence, cosines
from core.types import Batch

_WAYS = ("joint", "independent", "shuffled partner")


def coherences(subjects: Subjects) -> Iterator[Line]:
    """Mean cosine over the coupled pairs of outputs, with the prompts of test studies and without any."""
    centre = subjects.centre
    outputs = [name for name in subjects.run.outputs if subjects.bundle.may_prompt(name)]
    held = () if centre is None else (centre,)
    places = subjects.enough(*held)
    for prompts in (held, ()) if held else ((),):
        made = [name for name in outputs if name not in prompts]
        pairs = _pairs(subjects, made)
        if not places or not pairs:
            continue
        yield from _compared(subjects, made, pairs, places, prompts)


def _compared(
    subjects: Subjects,
    outputs: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    places: Sequence[int],
    prompts: Sequence[str],
) -> Iterator[Line]:
    who = subjects.patients(places)
    told = f"prompted by {prompts[0]}" if prompts else "no prompt"
    ways: dict[str, dict[tuple[str, str], np.ndarray]] = {}
    for way in _WAYS:
        found = subjects.generated(
            outputs,
            places,
            prompts=prompts,
            couple=way != "independent",
            shuffled=way == "shuffled partner",
            title=f"coherence, {told}, {way}",
        )
        ways[way] = {pair: _cosines(subjects, found, pair) for pair in pairs}
    for pair in (None, *pairs):
        values = {way: _mean(found, pair) for way, found in ways.items()}
        compared = coherence(values["joint"], {way: values[way] for way in _WAYS[1:]}, patients=who, seed=subjects.seed)
        label = "all coupled pairs" if pair is None else " and ".join(pair)
        for way in _WAYS if pair is None else ():
            yield line(f"{label}, {told}: cosine, {way}", compared.by_way[way])
        for way, difference in compared.joint_minus.items():
            yield line(f"{label}, {told}: cosine, joint minus {way}", difference)


def _pairs(subjects: Subjects, outputs: Sequence[str]) -> list[tuple[str, str]]:
    return [pair for pair in subjects.bundle.trained_pairs if set(pair) <= set(outputs)]


def _cosines(subjects: Subjects, made: dict[str, list[Batch]], pair: tuple[str, str]) -> np.ndarray:
    first, second = (torch.cat([subjects.embedded(name, batch) for batch in made[name]]) for name in pair)
    return cosines(first, second)


def _mean(found: dict[tuple[str, str], np.ndarray], pair: tuple[str, str] | None) -> np.ndarray:
    return np.mean(list(found.values()), axis=0) if pair is None else found[pair]
