"""Retrieval in the shared space, for pairs that were trained and pairs that never met (METHOD 6)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import permutations

import torch

from core.curriculum.measures.subjects import Subjects
from core.curriculum.table import Line, line
from core.evaluate.retrieval import retrieval

_K = 5
_LEAST = 8  # studies for a gallery


def retrievals(subjects: Subjects) -> Iterator[Line]:
    """R@5 of every ordered pair with chance and ceiling; of pairs that never met in matched galleries too."""
    flow = subjects.run.flows.align
    names = [name for name in flow.modalities if subjects.run.parts(name).prompt is not None]
    paired = {frozenset(pair) for edge in flow.edges for pair in edge.pairs}
    for first, second in permutations(names, 2):
        places = subjects.places(first, second, most=len(subjects.studies.records))
        if len(places) < _LEAST:
            continue
        never = frozenset((first, second)) not in paired
        yield _line(subjects, first, second, places, "never paired" if never else "paired", None)
        strata = [tuple(sorted(subjects.studies.records[place].strata.items())) for place in places]
        if never and any(strata):
            yield _line(subjects, first, second, places, "never paired, matched gallery", strata)


def _line(
    subjects: Subjects,
    first: str,
    second: str,
    places: Sequence[int],
    kind: str,
    strata: Sequence[Hashable] | None,
) -> Line:
    known = (subjects.pooled(name) for name in (first, second))
    queries, gallery = (torch.stack([pooled[place] for place in places]) for pooled in known)
    found = retrieval(
        queries,
        gallery,
        patients=subjects.patients(places),
        equal=subjects.studies.equal((first, second), places, labels=False),
        strata=strata,
        at=(_K,),
        seed=subjects.seed,
    )
    beside = (
        f"chance {found.chance[_K]:.3f}, ceiling {found.ceiling[_K]:.3f}, median rank {found.median_rank.value:.0f} of"
        f" {found.num}"
    )
    return line(f"{first} finds {second}: R@{_K}, {kind}", found.recall[_K], beside)
