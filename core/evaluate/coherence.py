"""Do two outputs that were generated together show the same patient? (METHOD 6; MedCoDi-M Eq. 5)"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from core.evaluate.interval import Interval, mean_interval, paired_interval

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
