"""Do two outputs that were generated together show the same patient? (method 6; MedCoDi-M Eq. 5)

Joint generation is compared with independent generation and with shuffled partners, by the cosine in the shared space
and by the rate of findings on which two outputs disagree.
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

from core.evaluate.bootstrap import ConfidenceInterval, mean_interval, paired_interval
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet, predicted_findings
from core.types import Batch

JOINT = "joint"
_WAYS = (JOINT, "independent", "shuffled partner")

Pair = tuple[str, str]
Generated = Mapping[str, Sequence[Batch]]
ByPair = Mapping[Pair, np.ndarray]  # a metric ``sample`` by pair of outputs


def coherence_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield mean cosines and finding disagreement rates over the coupled pairs of outputs, with and without prompts."""
    centre = test_set.centre
    outputs = [name for name in test_set.run.outputs if test_set.bundle.has_trained_prompt_encoder(name)]
    available = () if centre is None else (centre,)
    indices = test_set.comparable_indices(*available)
    for prompts in (available, ()) if available else ((),):
        generated = [name for name in outputs if name not in prompts]
        pairs = [pair for pair in test_set.bundle.trained_pairs if set(pair) <= set(generated)]
        if indices and pairs:
            yield from _compared(test_set, generated, pairs, indices, prompts)


def _compared(
    test_set: TestSet,
    outputs: Sequence[str],
    pairs: Sequence[Pair],
    indices: Sequence[int],
    prompts: Sequence[str],
) -> Iterator[MetricRow]:
    prompted = f"prompted by {prompts[0]}" if prompts else "no prompt"
    ways = {
        way: test_set.generated(
            outputs,
            indices,
            prompts=prompts,
            couple=way != "independent",
            shuffled=way == "shuffled partner",
            title=f"coherence, {prompted}, {way}",
        )
        for way in _WAYS
    }
    complete = [index for index in indices if index in test_set.studies.indices_with(*outputs)]
    cosine, disagreement = partial(_cosines, test_set), partial(_disagreements, test_set, indices)
    if complete:
        real = {name: list(test_set.studies.batches(name, complete)) for name in outputs}
        mean = mean_interval(_mean(cosine(real, pairs), None), test_set.patients(complete), seed=test_set.seed)
        yield metric_row(f"all coupled pairs, {prompted}: cosine, real studies", mean)
    cosines_by_way = {way: cosine(generated, pairs) for way, generated in ways.items()}
    yield from _rows_by_way(test_set, f"{prompted}: cosine", cosines_by_way, indices)
    rates_by_way = {way: disagreement(generated, pairs) for way, generated in ways.items()}
    yield from _rows_by_way(test_set, f"{prompted}: finding disagreement rate", rates_by_way, indices)


def _rows_by_way(
    test_set: TestSet, what: str, ways: Mapping[str, ByPair], indices: Sequence[int]
) -> Iterator[MetricRow]:
    """Yield the mean over all pairs by way of generating, then the differences, also of each pair."""
    patients = test_set.patients(indices)
    pairs = [pair for pair in ways[JOINT] if all(pair in by_pair for by_pair in ways.values())]
    if not pairs:
        return
    ways = {way: {pair: by_pair[pair] for pair in pairs} for way, by_pair in ways.items()}
    for pair in (None, *pairs):
        values = {way: _mean(by_pair, pair) for way, by_pair in ways.items()}
        others = {way: values[way] for way in _WAYS[1:]}
        compared = coherence(values[JOINT], others, patients=patients, seed=test_set.seed)
        label = "all coupled pairs" if pair is None else " and ".join(pair)
        for way in _WAYS if pair is None else ():
            yield metric_row(f"{label}, {what}, {way}", compared.by_way[way])
        for way, difference in compared.joint_minus.items():
            yield metric_row(f"{label}, {what}, joint minus {way}", difference)


def _cosines(test_set: TestSet, generated: Generated, pairs: Sequence[Pair]) -> ByPair:
    """Return the cosines in the shared space, ``sample`` by pair."""
    names = dict.fromkeys(name for pair in pairs for name in pair)
    pooled = {name: torch.cat([test_set.embedded(name, batch) for batch in generated[name]]) for name in names}
    return {(first, second): cosines(pooled[first], pooled[second]) for first, second in pairs}


def _disagreements(test_set: TestSet, indices: Sequence[int], generated: Generated, pairs: Sequence[Pair]) -> ByPair:
    """Return the finding disagreement rates, ``sample`` by pair; of pairs in which both outputs can be read."""
    names = dict.fromkeys(name for pair in pairs for name in pair)  # one order: processes train classifiers together
    findings = {name: predicted_findings(test_set, name, generated[name], indices) for name in names}
    rates = {pair: hamming(*(findings[name] for name in pair)) for pair in pairs}
    return {pair: rate for pair, rate in rates.items() if not np.isnan(rate).all()}


def _mean(by_pair: ByPair, pair: Pair | None) -> np.ndarray:
    """Return the values of one pair, or the mean over all of them."""
    return np.mean(list(by_pair.values()), axis=0) if pair is None else by_pair[pair]


@dataclass(frozen=True, kw_only=True)
class Coherence:
    """A metric of coherence by way of generating, and how far joint generation lies above every other way."""

    by_way: dict[str, ConfidenceInterval]
    joint_minus: dict[str, ConfidenceInterval]


def coherence(
    joint: ArrayLike,
    others: Mapping[str, ArrayLike],
    *,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Coherence:
    """Compare joint generation with other ways of generating the same samples.

    Each way has a metric per sample (`cosines`, `hamming`), all in the same order. Differences are paired: joint minus
    the other, so that joint generation is better where differences of cosines lie above 0 and of Hamming distances
    below. A shared prompt makes outputs coherent by itself: only the difference to the independent way shows the
    coupling.
    """
    ways = {name: np.asarray(values, dtype=np.float64) for name, values in {JOINT: joint, **others}.items()}
    if len({values.shape for values in ways.values()}) > 1:
        raise ValueError(f"every way measures the same samples, found {[values.shape for values in ways.values()]}")
    return Coherence(
        by_way={name: mean_interval(values, patients, seed=seed) for name, values in ways.items()},
        joint_minus={name: paired_interval(ways[JOINT] - ways[name], patients, seed=seed) for name in others},
    )


def cosines(first: Tensor, second: Tensor) -> np.ndarray:
    """Return the cosine of the pooled vectors of two outputs (MedCoDi-M Eq. 5), float64 ``sample``.

    Both are ``sample width``.
    """
    if first.shape != second.shape:
        raise ValueError(f"two outputs have embeddings of one shape, found {tuple(first.shape)}, {tuple(second.shape)}")
    return F.cosine_similarity(first.detach().double().cpu(), second.detach().double().cpu(), dim=1).numpy()


def hamming(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return the rate of findings on which two outputs disagree, float64 ``sample``.

    Both are ``sample finding``: 1 present, 0 absent, NaN unknown. Findings unknown in one output are left out; a sample
    without any other is NaN.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"two outputs have findings 'sample finding' of one shape, found {first.shape}, {second.shape}"
        )
    known = ~(np.isnan(first) | np.isnan(second))
    differ, num = ((first != second) & known).sum(1), known.sum(1)
    return np.divide(differ, num, out=np.full(len(num), np.nan), where=num > 0)
