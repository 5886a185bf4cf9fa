"""Retrieval in the shared space, compared with chance and with what equal entries allow (method 6)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from core.data.studies import Studies
from core.evaluate.bootstrap import ConfidenceInterval, bootstrap, mean_interval
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet, pooled_vectors
from core.generate.bundle import Bundle

if TYPE_CHECKING:
    from torch import Tensor


RANKS = (1, 5, 10)
_K = 5
_LEAST = 8  # studies for a gallery


def retrieval_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield R@5 of every ordered pair with chance and ceiling; where patients have strata, in matched galleries too.

    A pair was trained on each other (paired), held by the same training studies and yet not trained on each other (seen
    together), or seen in different patients only (never paired).
    """
    flow = test_set.run.flows.align
    names = [name for name in flow.modalities if test_set.run.parts(name).prompt is not None]
    paired = {frozenset(pair) for edge in flow.edges for pair in edge.pairs}
    for first, second in permutations(names, 2):
        indices = test_set.indices(first, second, most=len(test_set.studies.records))
        if len(indices) < _LEAST:
            continue
        together = bool(test_set.cohort.training.indices_with(first, second))
        kind = "paired" if frozenset((first, second)) in paired else "seen together" if together else "never paired"
        yield _row(test_set, first, second, indices, kind, None)
        strata = [tuple(sorted(test_set.studies.records[index].strata.items())) for index in indices]
        if any(strata):
            yield _row(test_set, first, second, indices, f"{kind}, matched gallery", strata)


def _row(
    test_set: TestSet,
    first: str,
    second: str,
    indices: Sequence[int],
    kind: str,
    strata: Sequence[Hashable] | None,
) -> MetricRow:
    result = retrieve_in_shared_space(test_set, first, second, indices, strata)
    reference = (
        f"chance {result.chance[_K]:.3f}, ceiling {result.ceiling[_K]:.3f}, median rank {result.median_rank.value:.0f}"
        f" (by chance {result.chance_rank:.0f})"
    )
    return metric_row(f"{first} → {second} retrieval, R@{_K}, {kind}", result.recall[_K], reference)


def retrieve_in_shared_space(
    test_set: TestSet,
    first: str,
    second: str,
    indices: Sequence[int],
    strata: Sequence[Hashable] | None = None,
) -> Retrieval:
    """Return how one modality of the test studies at ``indices`` retrieves another; with ``strata``, within each."""
    known = (test_set.pooled(name) for name in (first, second))
    queries, gallery = (torch.stack([pooled[index] for index in indices]) for pooled in known)
    return retrieval(
        queries,
        gallery,
        patients=test_set.patients(indices),
        equal=test_set.studies.same_text_mask((first, second), indices, labels=False),
        strata=strata,
        at=(_K,),
        seed=test_set.seed,
    )


def validation_recall(bundle: Bundle, studies: Studies, first: str, second: str, k: int) -> tuple[float, int]:
    """Return `recall_at` ``k`` over all ``studies`` that hold both modalities, and their number."""
    indices = studies.indices_with(first, second)
    vectors = [
        torch.cat([pooled_vectors(bundle, name, batch) for batch in studies.batches(name, indices)])
        for name in (first, second)
    ]
    return recall_at(*vectors, k=k), len(indices)


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How well queries retrieve their match.

    ``recall``, ``chance`` and ``ceiling`` are by number of entries looked at. ``ceiling`` is what a query can reach
    that cannot tell its match from equal entries. ``median_rank`` counts from 1, ``chance_rank`` is its value by
    chance. All are of the same galleries.
    """

    num: int
    recall: dict[int, ConfidenceInterval]
    chance: dict[int, float]
    ceiling: dict[int, float]
    median_rank: ConfidenceInterval
    chance_rank: float


def retrieval(
    queries: Tensor,
    gallery: Tensor,
    *,
    patients: Sequence[Hashable] | None = None,
    equal: Tensor | None = None,
    strata: Sequence[Hashable] | None = None,
    at: Iterable[int] = RANKS,
    seed: int = 0,
) -> Retrieval:
    """Return the recall at each of ``at`` and the median rank, with intervals by patient (method 6).

    ``queries`` and ``gallery`` ``sample width`` of unit norm, in the same order. ``equal`` bool ``sample sample``:
    which entries nobody can tell apart, e.g. of the same text. ``strata``: each query is compared only with the entries
    of its stratum (a matched gallery), for which chance and ceiling are computed too.
    """
    at, same, match = tuple(at), _same(strata, len(queries)), np.eye(len(queries), dtype=bool)
    rank, alike = ranks(queries, gallery, strata), match if equal is None else same & np.asarray(equal.cpu()) | match
    return Retrieval(
        num=len(rank),
        recall={k: mean_interval(rank < k, patients, seed=seed) for k in at},
        chance={k: reachable(same.sum(1), k) for k in at},
        ceiling={k: reachable(alike.sum(1), k) for k in at},
        chance_rank=float(np.median(same.sum(1)) + 1) / 2,
        median_rank=bootstrap(lambda rows: float(np.median(rank[rows])) + 1, len(rank), patients=patients, seed=seed),
    )


def recall_at(queries: Tensor, gallery: Tensor, k: int) -> float:
    """Return the share of queries whose match is among the ``k`` nearest of the gallery.

    Both ``sample width`` of unit norm, in the same order. An entry as near as the match counts as nearer, so that a
    collapsed encoder scores 0. Chance is ``k / len(gallery)``.
    """
    return float((ranks(queries, gallery) < k).mean())


def ranks(queries: Tensor, gallery: Tensor, strata: Sequence[Hashable] | None = None) -> np.ndarray:
    """Return for each query how many other entries of its stratum are at least as near as its match; int ``sample``."""
    similarity = queries @ gallery.T
    nearer = np.asarray((similarity >= similarity.diagonal()[:, None]).cpu())
    return (nearer & _same(strata, len(queries))).sum(1) - 1


def reachable(sizes: Any, k: int) -> float:
    """Return the mean chance to guess one of ``sizes`` (int ``sample``) equal entries in ``k`` tries."""
    return float(np.minimum(1.0, k / np.asarray(sizes)).mean())


def _same(strata: Sequence[Hashable] | None, num: int) -> np.ndarray:
    """Return bool ``sample sample``: samples of one stratum."""
    if strata is None:
        return np.ones((num, num), dtype=bool)
    number = {stratum: index for index, stratum in enumerate(dict.fromkeys(strata))}
    group = np.array([number[stratum] for stratum in strata])
    return group[:, None] == group
