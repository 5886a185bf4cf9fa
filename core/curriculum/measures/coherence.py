"""Do outputs that were generated together show one patient? Joint, independent, shuffled partners (METHOD 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from core.curriculum.measures.calls import calls
from core.curriculum.measures.subjects import Subjects
from core.curriculum.table import Line, line
from core.evaluate.coherence import coherence, cosines, hamming
from core.evaluate.interval import mean_interval
from core.types import Batch

Pair = tuple[str, str]
Made = Mapping[str, Sequence[Batch]]
Measured = Mapping[Pair, np.ndarray]

_WAYS = ("joint", "independent", "shuffled partner")


def coherences(subjects: Subjects) -> Iterator[Line]:
    """Mean cosine over the coupled pairs of outputs, with the prompts of test studies and without any.

    And the share of findings that the reader and the judges find in one of a pair and not in the other.
    """
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
    pairs: Sequence[Pair],
    places: Sequence[int],
    prompts: Sequence[str],
) -> Iterator[Line]:
    told = f"prompted by {prompts[0]}" if prompts else "no prompt"
    ways = {
        way: subjects.generated(
            outputs,
            places,
            prompts=prompts,
            couple=way != "independent",
            shuffled=way == "shuffled partner",
            title=f"coherence, {told}, {way}",
        )
        for way in _WAYS
    }
    whole = [place for place in places if place in subjects.studies.having(*outputs)]
    cosine, apart = partial(_cosines, subjects), partial(_apart, subjects, places)
    if whole:
        real = {name: list(subjects.studies.batches(name, whole)) for name in outputs}
        found = mean_interval(_mean(cosine(real, pairs), None), subjects.patients(whole), seed=subjects.seed)
        yield line(f"all coupled pairs, {told}: cosine, real studies", found)
    yield from _lines(subjects, f"{told}: cosine", {way: cosine(made, pairs) for way, made in ways.items()}, places)
    differing = {way: apart(made, pairs) for way, made in ways.items()}
    yield from _lines(subjects, f"{told}: findings that differ, share", differing, places)


def _lines(subjects: Subjects, what: str, ways: Mapping[str, Measured], places: Sequence[int]) -> Iterator[Line]:
    """All pairs together by way of generating, then the differences, of each pair too."""
    who = subjects.patients(places)
    pairs = [pair for pair in ways["joint"] if all(pair in one for one in ways.values())]
    if not pairs:
        return
    ways = {way: {pair: found[pair] for pair in pairs} for way, found in ways.items()}
    for pair in (None, *pairs):
        values = {way: _mean(found, pair) for way, found in ways.items()}
        compared = coherence(values["joint"], {way: values[way] for way in _WAYS[1:]}, patients=who, seed=subjects.seed)
        label = "all coupled pairs" if pair is None else " and ".join(pair)
        for way in _WAYS if pair is None else ():
            yield line(f"{label}, {what}, {way}", compared.by_way[way])
        for way, difference in compared.joint_minus.items():
            yield line(f"{label}, {what}, joint minus {way}", difference)


def _pairs(subjects: Subjects, outputs: Sequence[str]) -> list[Pair]:
    return [pair for pair in subjects.bundle.trained_pairs if set(pair) <= set(outputs)]


def _cosines(subjects: Subjects, made: Made, pairs: Sequence[Pair]) -> Measured:
    """Cosines in the shared space, ``sample`` by pair."""
    names = dict.fromkeys(name for pair in pairs for name in pair)
    pooled = {name: torch.cat([subjects.embedded(name, batch) for batch in made[name]]) for name in names}
    return {(first, second): cosines(pooled[first], pooled[second]) for first, second in pairs}


def _apart(subjects: Subjects, places: Sequence[int], made: Made, pairs: Sequence[Pair]) -> Measured:
    """The share of findings that one shows and the other does not, ``sample`` by pair; pairs that both can be read."""
    names = dict.fromkeys(name for pair in pairs for name in pair)  # in one order: processes train judges together
    called = {name: calls(subjects, name, made[name], places) for name in names}
    found = {pair: hamming(*(called[name] for name in pair)) for pair in pairs}
    return {pair: one for pair, one in found.items() if not np.isnan(one).all()}


def _mean(found: Measured, pair: Pair | None) -> np.ndarray:
    """Of one pair, or the mean over all of them."""
    return np.mean(list(found.values()), axis=0) if pair is None else found[pair]
