"""What the data sets of a run hold on their training split, per modality and per pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from core.flow import Flow
from core.modality import DatasetAdapter
from core.pools import dealt, visible
from core.recipe import Pools
from core.registry import Registry
from core.run import Run
from core.types import Record


@dataclass(frozen=True)
class Stock:
    """The training studies of one data set; ``problem`` says why there are none."""

    name: str
    root: Path | None
    records: tuple[Record, ...] = ()
    problem: str = ""

    def num_samples(self, names: Iterable[str], flow: Flow, pools: Pools) -> int:
        """Files of these modalities that training may see."""
        wanted = set(names)
        seen = (
            record.files[name] for record in self.records for name in visible(record, flow, pools) if name in wanted
        )
        return sum(len(files) for files in seen)

    def num_pairs(self, pair: Iterable[str], flow: Flow, pools: Pools) -> int:
        """Studies in which training may see all of these modalities."""
        wanted = set(pair)
        return sum(wanted <= set(visible(record, flow, pools)) for record in self.records)


def take_stock(run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter]) -> tuple[Stock, ...]:
    """Scan the data sets that the run names, in their order. What cannot be read is said, not raised."""
    return tuple(_stock(name, run, registry, datasets) for name in run.config.data.names)


def _stock(name: str, run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter]) -> Stock:
    root = None
    try:
        source = registry.data_source(name, datasets)
        root = source.root
        if not root.is_dir():
            return Stock(name, root, problem=f"{root} does not exist")
        records = [record for record in source.adapter.scan(root) if record.split == "train"]
    except (UserError, OSError) as error:
        return Stock(name, root, problem=str(error))
    if not records:
        return Stock(name, root, problem=f"no training study under {root}")
    if source.entry.deal and run.config.data.pools == "disjoint":
        records = dealt(records, run.flows.align, run.config.seed)
    return Stock(name, root, tuple(records))
