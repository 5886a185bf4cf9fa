"""Retrieval in the shared space, for pairs that were trained and pairs that never met (METHOD 6)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import permutations

import torch

from core.curriculum.measures.subjects import Subjects
from core.curriculum.table import Line, line
from core.evaluate.retrieval import Retrieval, retrieval

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
        together = bool(subjects.course.cohort.training.having(first, second))
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
        equal=subjects.studies.equal((first, second), places, labels=False),
        strata=strata,
        at=(_K,),
        seed=subjects.seed,
    )
