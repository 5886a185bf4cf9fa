"""AUROC and F1 of single findings, counted only where a label exists (method 6; MedCoDi-M 3.5.2)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from core.evaluate.bootstrap import ConfidenceInterval, bootstrap


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of (present, absent) pairs that ``scores`` ``sample`` rank correctly, ties halved.

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
    """Return the `auroc` of every finding, float64 ``finding``; ``scores`` and ``labels`` are ``sample finding``."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    return np.array([auroc(*columns) for columns in zip(scores.T, labels.T, strict=True)])


def reliable_findings(scores: ArrayLike, labels: ArrayLike, *, at_least: float = 0.7) -> np.ndarray:
    """Return bool ``finding``: which findings a classifier recognises on real images with an AUROC of ``at_least``.

    Its scores of the other findings mean nothing on generated images.
    """
    return aurocs(scores, labels) >= at_least


@dataclass(frozen=True, kw_only=True)
class F1:
    """F1 by finding, NaN where a finding is neither present nor predicted, and its averages over the other findings.

    ``micro`` pools all findings, ``macro`` is their mean, ``weighted`` their mean by the number of positive samples.
    """

    by_finding: dict[str, ConfidenceInterval]
    micro: ConfidenceInterval
    macro: ConfidenceInterval
    weighted: ConfidenceInterval


def best_thresholds(scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return the threshold of best F1 for every finding, float64 ``finding``; both are ``sample finding``, NaN unknown.

    A score above the threshold is a positive prediction. A finding without a positive sample gets infinity.
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
    """Return the F1 of the predictions ``scores > thresholds``; both ``sample finding``, unknown (NaN) labels left out.

    Where torchmetrics' macro F1 counts 0 for a finding that never occurs, this one does not average it.
    """
    predicted, labels = np.asarray(scores) > np.asarray(thresholds), np.asarray(labels)
    known, positives = ~np.isnan(labels), labels == 1
    # Per sample and finding: the numerator and the denominator of F1 = 2 TP / (predicted + positives).
    hits, claims = 2 * (predicted & positives), (predicted & known) * 1 + positives

    def interval(formula: Callable[[np.ndarray, np.ndarray, np.ndarray], float]) -> ConfidenceInterval:
        def statistic(rows: np.ndarray) -> float:
            return formula(hits[rows].sum(0), claims[rows].sum(0), positives[rows].sum(0))

        return bootstrap(statistic, len(labels), patients=patients, seed=seed)

    return F1(
        by_finding={name: interval(_single(index)) for index, name in enumerate(findings)},
        micro=interval(lambda hit, claim, _: float(_divided(hit.sum(), claim.sum()))),
        macro=interval(lambda hit, claim, _: _weighted(hit, claim, claim > 0)),
        weighted=interval(_weighted),
    )


def _single(index: int) -> Callable[[np.ndarray, np.ndarray, np.ndarray], float]:
    return lambda hit, claim, _: float(_divided(hit[index], claim[index]))


def _weighted(hit: np.ndarray, claim: np.ndarray, weight: np.ndarray) -> float:
    """Return the mean F1 over the findings that have one."""
    return float(_divided((np.nan_to_num(_divided(hit, claim)) * weight).sum(), weight.sum()))


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return the quotient, NaN where the divisor is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    known = ~np.isnan(labels)
    order = np.argsort(-scores[known], kind="stable")
    ranked, present = scores[known][order], labels[known][order] == 1
    if not present.any():
        return float("inf")
    # With the first n samples predicted positive, F1 = 2 TP / (n + positives). Equal scores are predicted together.
    score = 2 * np.cumsum(present) / (np.arange(1, len(ranked) + 1) + present.sum())
    ends = np.append(ranked[1:] < ranked[:-1], True)
    best = int(np.argmax(np.where(ends, score, -1.0)))
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1
    return float((ranked[best] + below) / 2)
