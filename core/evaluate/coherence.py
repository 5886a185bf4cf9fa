"""Do two outputs that were generated together show the same patient? (METHOD 6; MedCoDi-M Eq. 5)

Do outputs that were generated together show one patient? Joint, independent, shuffled partners (METHOD 6).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from core.evaluate.bootstrap import Interval, mean_interval, paired_interval
from core.evaluate.table import Line, line
from core.evaluate.test_set import Subjects, calls
from core.types import Batch

JOINT = "joint"


@dataclass(frozen=True, kw_only=True)
class Coherence:
    """A measure of agreement by way of generating, and how far joint generation lies above every other way."""

    by_way: dict[str, Interval]
    joint_minus: dict[str, Interval]


def cosines(first: Tensor, second: Tensor) -> np.ndarray:
    """Cosine of the pooled embeddings of two outputs (MedCoDi-M Eq. 5), both ``sample width``; float64 ``sample``."""
    if first.shape != second.shape:
        raise ValueError(f"two outputs have embeddings of one shape, found {tuple(first.shape)}, {tuple(second.shape)}")
    return F.cosine_similarity(first.detach().double().cpu(), second.detach().double().cpu(), dim=1).numpy()


def hamming(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Share of findings that two outputs tell differently, float64 ``sample``.

    Both ``sample finding``: 1 present, 0 absent, NaN not told. Findings that one of them does not tell are left out;
    NaN where none is left.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"two outputs have findings 'sample finding' of one shape, found {first.shape}, {second.shape}"
        )
    told = ~(np.isnan(first) | np.isnan(second))
    differ, num = ((first != second) & told).sum(1), told.sum(1)
    return np.divide(differ, num, out=np.full(len(num), np.nan), where=num > 0)


def coherence(
    joint: ArrayLike,
    others: Mapping[str, ArrayLike],
    *,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Coherence:
    """Joint generation against other ways of generating the same samples, e.g. independent, and shuffled partners.

    A measure per sample (`cosines`, `hamming`) and way, all in the same order. Differences are paired: joint minus the
    other, so that joint generation helps where cosines lie above 0 and Hamming distances below. A shared prompt gives
    coherence for free: only the difference to the independent way is the coupling's.
    """
    ways = {name: np.asarray(values, dtype=np.float64) for name, values in {JOINT: joint, **others}.items()}
    if len({values.shape for values in ways.values()}) > 1:
        raise ValueError(f"every way measures the same samples, found {[values.shape for values in ways.values()]}")
    return Coherence(
        by_way={name: mean_interval(values, patients, seed=seed) for name, values in ways.items()},
        joint_minus={name: paired_interval(ways[JOINT] - ways[name], patients, seed=seed) for name in others},
    )


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
    whole = [place for place in places if place in subjects.studies.indices_with(*outputs)]
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
