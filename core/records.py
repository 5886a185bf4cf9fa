"""The studies of a run's data sets: made where they are computed, scanned, split, and dealt into pools.

What an adapter does wrong is one line that names the data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import get_args

from core.errors import UserError, listed, unknown
from core.modality import DatasetAdapter, PartConfig
from core.overrides import with_overrides
from core.pools import dealt, split_by_patient
from core.registry import DataSource, Registry
from core.run import Run
from core.types import Record, Split


def source_of(name: str, run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter]) -> DataSource:
    """A data set of a run; `UserError` where it holds none of the modalities of the flow."""
    source = registry.data_source(name, datasets)
    wanted = run.flows.union.modalities
    if source.adapter.modalities and not set(source.adapter.modalities) & set(wanted):
        raise UserError(
            f"data set '{name}' holds none of the modalities of the flow (it holds {listed(source.adapter.modalities)};"
            f" the flow has {', '.join(wanted)}); name another with --data, or change the flow"
        )
    return source


def make_data(source: DataSource) -> None:
    """Make what is missing of a computed data set; `UserError` where a collected one is not there.

    An adapter's ``make`` returns at once where everything is there, and completes what a killed one left.
    """
    if source.adapter.make is None:
        if not source.root.is_dir():
            raise UserError(
                f"data set '{source.name}': no folder {source.root}; set datasets.{source.name}.root in"
                " registry.local.toml"
            )
        return
    try:
        source.adapter.make(source.root)
    except Exception as error:
        raise UserError(_failed(source, "make", error)) from error


def records_of(source: DataSource, run: Run) -> list[Record]:
    """The studies of a data set, of every split; a pool for each training patient where pools are dealt."""
    try:
        records = list(source.adapter.scan(source.root, **source.entry.options))
        for record in records:
            _require_record(record)
    except Exception as error:
        raise UserError(_failed(source, "scan", error)) from error
    if source.entry.split == "by_patient":
        records = split_by_patient(records)
    _refuse_leaks(source, records)
    if source.entry.deal and run.config.data.pools == "disjoint":
        records = dealt(records, run.flows.union, run.config.seed)
    else:
        records = [replace(record, pool=None) for record in records]
    return [replace(record, dataset=source.name) for record in records]


def readers_of(sources: Iterable[DataSource], run: Run) -> dict[tuple[str, str], PartConfig]:
    """The readers that data sets set for their files, by data set and modality; `UserError` names a wrong setting."""
    found: dict[tuple[str, str], PartConfig] = {}
    for source in sources:
        for name in source.entry.reader:
            if name not in run.modalities:
                wrong = unknown("modality", name, run.modalities, adjective="installed")
                raise UserError(f"datasets.{source.name}.reader: {wrong}")
        used = {name: table for name, table in source.entry.reader.items() if name in run.flows.union.modalities}
        try:
            changed = with_overrides(
                run.modalities, run.config.preset, {name: {"reader": dict(table)} for name, table in used.items()}
            )
        except UserError as error:
            raise UserError(f"datasets.{source.name}.reader: {error}") from error
        for name in used:
            reader = changed[name].parts(run.config.preset).reader
            if reader is not None:
                found[source.name, name] = reader
    return found


def _refuse_leaks(source: DataSource, records: Iterable[Record]) -> None:
    """`UserError` where a patient stands in two splits: what was measured on one would have been trained on."""
    splits: dict[str, str] = {}
    for record in records:
        if splits.setdefault(record.patient, record.split) != record.split:
            raise UserError(
                f"data set '{source.name}': patient '{record.patient}' stands in the splits {splits[record.patient]}"
                f" and {record.split}; keep every patient in one, or set datasets.{source.name}.split = 'by_patient'"
            )


def _require_record(record: object) -> None:
    """`UserError` where an adapter gave something else than a study."""
    if not isinstance(record, Record):
        raise UserError(f"scan(root) gave a {type(record).__name__}; it gives a Record per study")
    if record.split not in get_args(Split):
        raise UserError(f"study '{record.study}' has the split {record.split!r} (known: {listed(get_args(Split))})")
    for name, text in record.texts.items():
        if not isinstance(text, str):
            raise UserError(f"study '{record.study}': the text of '{name}' is a {type(text).__name__}, not a string")
    for name, files in record.files.items():
        if not isinstance(files, (tuple, list)):
            raise UserError(f"study '{record.study}': the files of '{name}' are a {type(files).__name__}, not a tuple")


def _failed(source: DataSource, verb: str, error: Exception) -> str:
    cause = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return f"data set '{source.name}': cannot {verb} {source.root}: {cause}"
