"""Retrieval in the shared space, with what chance and equal entries allow (METHOD 6).

Retrieval in the shared space, for pairs that were trained and pairs that never met (METHOD 6).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from core.evaluate.bootstrap import Interval, bootstrap, mean_interval
from core.evaluate.table import Line, line
from core.evaluate.test_set import Subjects

if TYPE_CHECKING:
    from torch import Tensor


RANKS = (1, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How well queries find their own entry.

    ``recall``, ``chance`` and ``ceiling`` by number of entries looked at. ``ceiling``: what a query can reach that
    cannot tell its own entry from equal ones. ``median_rank`` counts from 1, ``chance_rank`` is what chance would make
    of it. All are of the same galleries.
    """

    num: int
    recall: dict[int, Interval]
    chance: dict[int, float]
    ceiling: dict[int, float]
    median_rank: Interval
    chance_rank: float


def recall_at(queries: Tensor, gallery: Tensor, k: int) -> float:
    """Share of queries whose own entry is among the ``k`` nearest of the gallery.

    Both ``sample width`` of unit norm, in the same order. An entry that is as near as the own one counts as nearer, so
    a collapsed encoder scores 0. Chance is ``k / len(gallery)``.
    """
    return float((ranks(queries, gallery) < k).mean())


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
    """Recall at each of ``at`` and the median rank, with intervals by patient (METHOD 6).

    ``queries`` and ``gallery`` ``sample width`` of unit norm, in the same order. ``equal`` bool ``sample sample``:
    which entries nobody can tell apart, e.g. of the same text. ``strata``: each query looks only among the entries of
    its own stratum (a matched gallery), for which chance and ceiling are computed too.
    """
    at, same, own = tuple(at), _same(strata, len(queries)), np.eye(len(queries), dtype=bool)
    rank, alike = ranks(queries, gallery, strata), own if equal is None else same & np.asarray(equal.cpu()) | own
    return Retrieval(
        num=len(rank),
        recall={k: mean_interval(rank < k, patients, seed=seed) for k in at},
        chance={k: reachable(same.sum(1), k) for k in at},
        ceiling={k: reachable(alike.sum(1), k) for k in at},
        chance_rank=float(np.median(same.sum(1)) + 1) / 2,
        median_rank=bootstrap(lambda rows: float(np.median(rank[rows])) + 1, len(rank), patients=patients, seed=seed),
    )


def ranks(queries: Tensor, gallery: Tensor, strata: Sequence[Hashable] | None = None) -> np.ndarray:
    """Entries of its stratum that are as near to each query as its own or nearer; 0 is best. Int ``sample``."""
    similarity = queries @ gallery.T
    nearer = np.asarray((similarity >= similarity.diagonal()[:, None]).cpu())
    return (nearer & _same(strata, len(queries))).sum(1) - 1


def reachable(sizes: Any, k: int) -> float:
    """The mean chance to find one entry among ``sizes`` (int ``sample``) alike with ``k`` guesses: min(1, k / size)."""
    return float(np.minimum(1.0, k / np.asarray(sizes)).mean())


def _same(strata: Sequence[Hashable] | None, num: int) -> np.ndarray:
    """Bool ``sample sample``: samples of one stratum."""
    if strata is None:
        return np.ones((num, num), dtype=bool)
    number = {stratum: place for place, stratum in enumerate(dict.fromkeys(strata))}
    group = np.array([number[stratum] for stratum in strata])
    return group[:, None] == group


_K = 5
_LEAST = 8  # studies for a gallery


def retrievals(subjects: Subjects) -> Iterator[Line]:
    """R@5 of every ordered pair with chance and ceiling; where patients have strata, in matched galleries too.

    Pairs were trained on each other (paired), held by the same training studies and yet not trained on each other (seen
    together), or seen by the model in different patients only (never paired).
    """
    flow = subjects.run.flows.align
    names = [name for name in flow.modalities if subjects.run.parts(name).prompt is not None]
    paired = {frozenset(pair) for edge in flow.edges for pair in edge.pairs}
    for first, second in permutations(names, 2):
        places = subjects.places(first, second, most=len(subjects.studies.records))
        if len(places) < _LEAST:
            continue
        together = bool(subjects.cohort.training.indices_with(first, second))
        kind = "paired" if frozenset((first, second)) in paired else "seen together" if together else "never paired"
        yield _line(subjects, first, second, places, kind, None)
        strata = [tuple(sorted(subjects.studies.records[place].strata.items())) for place in places]
        if any(strata):
            yield _line(subjects, first, second, places, f"{kind}, matched gallery", strata)


def _line(
    subjects: Subjects,
    first: str,
    second: str,
    places: Sequence[int],
    kind: str,
    strata: Sequence[Hashable] | None,
) -> Line:
    found = found_in_shared_space(subjects, first, second, places, strata)
    beside = (
        f"chance {found.chance[_K]:.3f}, ceiling {found.ceiling[_K]:.3f}, median rank {found.median_rank.value:.0f}"
        f" (by chance {found.chance_rank:.0f})"
    )
    return line(f"{first} finds {second}: R@{_K}, {kind}", found.recall[_K], beside)


def found_in_shared_space(
    subjects: Subjects,
    first: str,
    second: str,
    places: Sequence[int],
    strata: Sequence[Hashable] | None = None,
) -> Retrieval:
    """How one modality of the test studies at ``places`` finds another; with ``strata`` in matched galleries."""
    known = (subjects.pooled(name) for name in (first, second))
    queries, gallery = (torch.stack([pooled[place] for place in places]) for pooled in known)
    return retrieval(
        queries,
        gallery,
        patients=subjects.patients(places),
        equal=subjects.studies.same_text_mask((first, second), places, labels=False),
        strata=strata,
        at=(_K,),
        seed=subjects.seed,
    )
