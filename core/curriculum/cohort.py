"""The studies that a run trains on, and those it is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from core.engine.compute import Compute
from core.errors import UserError
from core.modality import DatasetAdapter
from core.pools import dealt, visible
from core.preprocess.studies import Studies
from core.registry import Registry
from core.run import Run
from core.types import Record


@dataclass(frozen=True)
class Cohort:
    """Training and held-out studies; ``fingerprint`` names who is in them and what may be seen of whom."""

    training: Studies
    held_out: Studies
    fingerprint: str


def gather_cohort(run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter], compute: Compute) -> Cohort:
    """Scan the data sets of a run; a computed cohort is made where it is missing."""
    records = [record for name in run.config.data.names for record in _records(name, run, registry, datasets, compute)]
    training, held_out = (_studies(run, records, split) for split in ("train", "validation"))
    return Cohort(training, held_out, _fingerprint(training, held_out))


def _studies(run: Run, records: Sequence[Record], split: str) -> Studies:
    chosen = [record for record in records if record.split == split]
    flow, pools = run.flows.align, run.config.data.pools
    parts = {name: run.parts(name) for name in run.flows.union.modalities}
    return Studies(chosen, [visible(record, flow, pools) for record in chosen], parts)


def _records(
    name: str, run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter], compute: Compute
) -> list[Record]:
    source = registry.data_source(name, datasets)
    with compute.first_alone():
        if not source.root.is_dir():
            if source.adapter.make is None:
                raise UserError(
                    f"data set '{name}': no folder {source.root}; set datasets.{name}.root in registry.local.toml"
                )
            source.adapter.make(source.root)
    records = list(source.adapter.scan(source.root))
    if source.entry.deal and run.config.data.pools == "disjoint":
        return dealt(records, run.flows.align, run.config.seed)
    return [replace(record, pool=None) for record in records]


def _fingerprint(*splits: Studies) -> str:
    digest = blake2b(digest_size=16)
    for studies in splits:
        for record, seen in zip(studies.records, studies.visible, strict=True):
            row = (record.patient, record.study, record.split, seen, sorted(record.labels.items()))
            digest.update(repr(row).encode())
    return digest.hexdigest()
