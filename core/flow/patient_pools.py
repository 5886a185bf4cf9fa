"""Divide training patients into disjoint pools, one per round, so that "never paired" is true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from random import Random

from core.config.recipe import Pools
from core.flow.grammar import Flow
from core.types import Record, Split


def assign_pools(patients: Iterable[str], num_pools: int, seed: int = 0) -> dict[str, int]:
    """Return patient to pool, 1 to ``num_pools`` (the ``index`` of a round); sizes differ by one at most.

    Depends on the set of patients and the seed only, not on their order.
    """
    order = sorted(set(patients))
    Random(seed).shuffle(order)
    return {patient: 1 + position % num_pools for position, patient in enumerate(order)}


def with_pools(records: Iterable[Record], flow: Flow, seed: int = 0) -> list[Record]:
    """Return records whose training patients are in one pool per edge; other splits have no pool.

    A patient with a single modality of the flow pairs nothing and is in no pool: every round may use it.
    """
    records = list(records)
    modalities: dict[str, set[str]] = {}
    for record in records:
        if record.split == "train":
            modalities.setdefault(record.patient, set()).update(name for name in flow.modalities if record.has(name))
    pools = assign_pools((patient for patient, names in modalities.items() if len(names) > 1), len(flow.edges), seed)
    return [replace(record, pool=pools.get(record.patient)) for record in records]


def split_by_patient(records: Iterable[Record]) -> list[Record]:
    """Return records of 80 % training, 10 % validation and 10 % test patients.

    A patient's split depends on the patient's name alone: neither another seed nor more patients change it.
    """
    return [replace(record, split=_split_of(record.patient)) for record in records]


def _split_of(patient: str) -> Split:
    tenth = int.from_bytes(blake2b(patient.encode(errors="backslashreplace"), digest_size=8).digest(), "big") % 10
    return "train" if tenth < 8 else "validation" if tenth == 8 else "test"


def visible(record: Record, flow: Flow, pools: Pools) -> tuple[str, ...]:
    """Return the modalities of a study that training may see, in the order of the flow.

    With disjoint pools a patient of pool n shows what round n joins, and nothing else, in every phase.
    """
    names = flow.modalities
    if pools == "disjoint" and record.pool is not None:
        inside = 0 < record.pool <= len(flow.edges)
        names = flow.edges[record.pool - 1].modalities if inside else ()
    return tuple(name for name in names if record.has(name))
