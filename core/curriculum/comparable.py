"""Studies to measure on: drawn alike for every measure, and enough patients to compare with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import torch

from core.data.studies import Studies
from core.engine.rng import stream


def drawn(studies: Studies, names: Sequence[str], most: int, seed: int, purpose: str) -> list[int]:
    """Places of studies that hold all of these, at most ``most``, drawn from all data sets alike; in their order."""
    found = studies.having(*names)
    order = torch.randperm(len(found), generator=stream(seed, purpose, *names)).tolist()
    return sorted(found[index] for index in order[:most])


def patients_of(studies: Studies, places: Sequence[int]) -> list[Hashable]:
    """Who they are: two data sets may use one name for two patients."""
    return [(studies.records[place].dataset, studies.records[place].patient) for place in places]


def interleaved(places: Sequence[int], patients: Sequence[Hashable], size: int) -> list[int]:
    """The places dealt patient by patient into batches of at most ``size``, one batch after the other.

    Studies of one patient stand together in a data set, so that a batch of neighbours might hold nobody else.
    """
    first = {patient: index for index, patient in reversed([*enumerate(patients)])}
    order = sorted(range(len(places)), key=lambda index: (first[patients[index]], index))
    num = max(1, -(-len(places) // size))
    return [places[index] for batch in range(num) for index in order[batch::num]]


def have_strangers(patients: Sequence[Hashable]) -> bool:
    """Whether everyone has a stranger: two patients at least, and none with more than half of the studies."""
    return len(patients) >= 2 and 2 * max(Counter(patients).values()) <= len(patients)
