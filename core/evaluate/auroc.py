"""Area under the ROC curve of single findings, only where a label exists (METHOD 6; MedCoDi-M 3.5.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


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
