"""Count the training studies of the data sets of a run, per modality and per pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.config.registry import Registry
from core.contract.modality import DatasetAdapter
from core.data.records import prepared_of, records_of, source_of
from core.errors import UserError
from core.flow.run import Run
from core.types import Record


@dataclass(frozen=True)
class DataCounts:
    """The training studies of one data set, with the modalities of each that training may see.

    ``problem``: why there are no studies.
    """

    name: str
    root: Path | None
    records: tuple[Record, ...] = ()
    visible: tuple[tuple[str, ...], ...] = ()
    problem: str = ""

    def num_samples(self, names: Iterable[str]) -> int:
        """Return the number of samples of these modalities that training may see, one per study and modality."""
        wanted = set(names)
        return sum(len(wanted & set(seen)) for seen in self.visible)

    def num_pairs(self, pair: Iterable[str]) -> int:
        """Return the number of studies in which training may see all of these modalities."""
        wanted = set(pair)
        return sum(wanted <= set(seen) for seen in self.visible)


def count_data(run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter]) -> tuple[DataCounts, ...]:
    """Scan the data sets of the run, in their order. A data set that cannot be read is reported, not raised."""
    return tuple(_count(name, run, registry, datasets) for name in run.config.data.names)


def _count(name: str, run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter]) -> DataCounts:
    root = None
    try:
        root = registry.data_source(name, datasets).root
        source = source_of(name, run, registry, datasets)
        if not root.is_dir():
            return DataCounts(name, root, problem=f"{root} does not exist")
        prepared = prepared_of([source], run).get(name)
        records = [record for record in records_of(source, run, prepared) if record.split == "train"]
    except UserError as error:
        return DataCounts(name, root, problem=str(error))
    if not records:
        return DataCounts(name, root, problem=f"no training study under {root}")
    return DataCounts(name, root, tuple(records), tuple(run.visible(record) for record in records))
