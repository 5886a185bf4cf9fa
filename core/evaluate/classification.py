"""Area under the ROC curve of single findings, only where a label exists (METHOD 6; MedCoDi-M 3.5.2).

F1 of a judge at thresholds that were chosen on training images (METHOD 6).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from core.evaluate.bootstrap import Interval, bootstrap


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Share of (present, absent) pairs that ``scores`` ``sample`` order rightly, ties halved (Mann and Whitney).

    ``labels`` ``sample``: 1 present, 0 absent, NaN unknown and left out. NaN where either class is missing.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    known = ~np.isnan(labels)
    present = labels[known] == 1
    positive, negative = int(present.sum()), int((~present).sum())
    if not positive or not negative:
        return float("nan")
    rank_sum = rankdata(scores[known])[present].sum()
    return float((rank_sum - positive * (positive + 1) / 2) / (positive * negative))


def aurocs(scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """`auroc` of every finding, float64 ``finding``, of ``scores`` and ``labels`` ``sample finding``."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    return np.array([auroc(*columns) for columns in zip(scores.T, labels.T, strict=True)])


def readable(scores: ArrayLike, labels: ArrayLike, *, at_least: float = 0.7) -> np.ndarray:
    """Bool ``finding``: those that a judge reads well enough on real images; others say nothing of generated ones."""
    return aurocs(scores, labels) >= at_least


@dataclass(frozen=True, kw_only=True)
class F1:
    """F1 by finding, NaN where nothing is present nor called so, and its averages over the others.

    ``micro`` counts all findings together, ``macro`` is the mean, ``weighted`` that by the number of samples present.
    """

    by_finding: dict[str, Interval]
    micro: Interval
    macro: Interval
    weighted: Interval


def best_thresholds(scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """The threshold of best F1 for every finding, float64 ``finding``; both ``sample finding``, NaN unknown.

    A score above it is a call. Where no sample is known to be present there is nothing to choose: infinity, no calls.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    return np.array([_best_threshold(*columns) for columns in zip(scores.T, labels.T, strict=True)])


def f1(
    scores: ArrayLike,
    labels: ArrayLike,
    thresholds: ArrayLike,
    findings: Sequence[str],
    *,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> F1:
    """F1 of calls ``scores > thresholds``; scores and labels ``sample finding``, unknown (NaN) labels left out.

    torchmetrics' macro F1 gives 0 for a finding that never occurs; here it is not averaged.
    """
    calls, labels = np.asarray(scores) > np.asarray(thresholds), np.asarray(labels)
    # Per sample and finding: twice the true positives, and the sum of calls and of those present, where known.
    known = ~np.isnan(labels)
    hits, claims, positives = 2 * (calls & (labels == 1)), (calls & known) * 1 + (labels == 1), labels == 1

    def interval(of: Callable[[np.ndarray, np.ndarray, np.ndarray], float]) -> Interval:
        def statistic(rows: np.ndarray) -> float:
            return of(hits[rows].sum(0), claims[rows].sum(0), positives[rows].sum(0))

        return bootstrap(statistic, len(labels), patients=patients, seed=seed)

    return F1(
        by_finding={name: interval(_single(place)) for place, name in enumerate(findings)},
        micro=interval(lambda hit, claim, _: float(_divided(hit.sum(), claim.sum()))),
        macro=interval(lambda hit, claim, _: _weighted(hit, claim, claim > 0)),
        weighted=interval(_weighted),
    )


def _single(place: int) -> Callable[[np.ndarray, np.ndarray, np.ndarray], float]:
    return lambda hit, claim, _: float(_divided(hit[place], claim[place]))


def _weighted(hit: np.ndarray, claim: np.ndarray, weight: np.ndarray) -> float:
    """The mean F1 over the findings that have one."""
    return float(_divided((np.nan_to_num(_divided(hit, claim)) * weight).sum(), weight.sum()))


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient, NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    known = ~np.isnan(labels)
    order = np.argsort(-scores[known], kind="stable")
    ranked, present = scores[known][order], labels[known][order] == 1
    if not present.any():
        return float("inf")
    # Calling the first n samples: F1 = 2 TP / (n + positives). Equal scores are called together.
    score = 2 * np.cumsum(present) / (np.arange(1, len(ranked) + 1) + present.sum())
    ends = np.append(ranked[1:] < ranked[:-1], True)
    best = int(np.argmax(np.where(ends, score, -1.0)))
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1
    return float((ranked[best] + below) / 2)
