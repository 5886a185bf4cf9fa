"""The records of a run's data sets: computed or scanned, split, and assigned to pools.

What an adapter does wrong is one line that names the data set.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import get_args

from core.config.registry import DataSource, Registry
from core.contract.modality import DatasetAdapter, PartConfig
from core.data.prepared.manifest import FILE, is_fresh, read_manifest, source_digest
from core.data.prepared.samples import PreparedSamples
from core.data.prepared.settings import digests_of
from core.data.readability import without
from core.errors import MedWeaveWarning, UserError, join_choices
from core.flow.patient_pools import split_by_patient, with_pools
from core.flow.run import Run
from core.types import Record, Split


def source_of(name: str, run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter]) -> DataSource:
    """Return a data set of a run; `UserError` where it holds none of the modalities of the flow."""
    source = registry.data_source(name, datasets)
    wanted = run.flows.union.modalities
    if source.adapter.modalities and not set(source.adapter.modalities) & set(wanted):
        known = join_choices(source.adapter.modalities)
        raise UserError(
            f"data set '{name}' holds none of the modalities of the flow (it holds {known}; the flow has"
            f" {', '.join(wanted)}); name another with --data, or change the flow"
        )
    return source


def make_data(source: DataSource) -> None:
    """Make what is missing of a computed data set; `UserError` where a collected one is not there.

    An adapter's ``make`` returns at once where everything is there, and completes what an interrupted one left.
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


def records_of(
    source: DataSource,
    run: Run,
    prepared: PreparedSamples | None = None,
    drop: Callable[[list[Record]], list[Record]] = list,
) -> list[Record]:
    """Return the studies of a data set, of every split; with a pool for each training patient where pools are disjoint.

    They are those of a fresh manifest where ``core.prepare`` left one, else those of a new scan. What ``prepared``
    lists as unreadable is left out, with one warning. ``drop`` may leave out more, before pools are assigned.
    """
    records = list(_manifest_or_scan(source))
    if source.entry.split == "by_patient":
        records = split_by_patient(records)
    _require_no_leaks(source, records)
    if prepared is not None:
        records = _without_unreadable(records, prepared, run.flows.union.modalities)
    records = drop(records)
    if source.entry.deal and run.config.data.pools == "disjoint":
        records = with_pools(records, run.flows.union, run.config.seed)
    else:
        records = [replace(record, pool=None) for record in records]
    return [replace(record, dataset=source.name) for record in records]


def scan(source: DataSource) -> Iterator[Record]:
    """Yield the studies as the adapter scans them, one by one; `UserError` names the data set where it does wrong."""
    try:
        for record in source.adapter.scan(source.root, **source.entry.options):
            _require_record(record)
            yield record
    except Exception as error:
        raise UserError(_failed(source, "scan", error)) from error


def source_of_studies(source: DataSource) -> str:
    """Return a hash of where and how the adapter scans; `UserError` where the folder cannot be listed."""
    try:
        return source_digest(source.root, source.entry.adapter, source.entry.options)
    except OSError as error:
        raise UserError(f"data set '{source.name}': {source.root} cannot be listed: {error.strerror}") from error


def prepared_of(sources: Iterable[DataSource], run: Run) -> dict[str, PreparedSamples]:
    """Return what ``core.prepare`` left of the data sets of a run at its preset, by data set."""
    prepared = {}
    for source in sources:
        if source.prepared is not None and (source.prepared / run.config.preset).is_dir():
            parts = {name: run.parts(name) for name in run.flows.union.modalities}
            digests = digests_of(parts, readers_of([source], run), source.name)
            folder = source.prepared / run.config.preset
            prepared[source.name] = PreparedSamples(source.name, folder, source.root, digests)
    return prepared


def readers_of(sources: Iterable[DataSource], run: Run) -> dict[tuple[str, str], PartConfig]:
    """Return the readers that data sets set for their files, by data set and modality."""
    return {(source.name, name): reader for source in sources for name, reader in run.readers(source).items()}


def _manifest_or_scan(source: DataSource) -> Iterator[Record]:
    manifest = None if source.prepared is None else source.prepared / FILE
    if manifest is None or not manifest.is_file() or not source.root.is_dir():
        return scan(source)
    if is_fresh(manifest, source_of_studies(source)):
        return read_manifest(manifest, source.root)
    warnings.warn(
        MedWeaveWarning(
            f"{manifest}: is older than {source.root} or its settings; the studies are scanned again: run"
            f" core.prepare {source.name}"
        ),
        stacklevel=3,
    )
    return scan(source)


def _without_unreadable(records: list[Record], prepared: PreparedSamples, wanted: Collection[str]) -> list[Record]:
    """Return the studies without the files that could not be read when they were prepared."""
    num, readable = Counter[str](), list[Record]()
    for record in records:
        refused = [name for name in wanted if record.has(name) and prepared.refuses(name, record)]
        num.update(refused)
        readable.append(without(record, refused) if refused else record)
    if num:
        counts = ", ".join(f"{count} of {name}" for name, count in sorted(num.items()))
        warnings.warn(
            MedWeaveWarning(
                f"data set '{prepared.dataset}': left out what core.prepare could not read: {counts}; see"
                f" {prepared.folder / 'audit.json'}"
            ),
            stacklevel=3,
        )
    return readable


def _require_no_leaks(source: DataSource, records: Iterable[Record]) -> None:
    """`UserError` where a patient is in two splits: what was measured on one would have been trained on."""
    splits: dict[str, str] = {}
    for record in records:
        if splits.setdefault(record.patient, record.split) != record.split:
            raise UserError(
                f"data set '{source.name}': patient '{record.patient}' is in the splits {splits[record.patient]}"
                f" and {record.split}; keep every patient in one, or set datasets.{source.name}.split = 'by_patient'"
            )


def _require_record(record: object) -> None:
    """`UserError` where an adapter gave something else than a study."""
    if not isinstance(record, Record):
        raise UserError(f"scan(root) gave a {type(record).__name__}; it gives a Record per study")
    if record.split not in get_args(Split):
        raise UserError(
            f"study '{record.study}' has the split {record.split!r} (known: {join_choices(get_args(Split))})"
        )
    for name, text in record.texts.items():
        if not isinstance(text, str):
            raise UserError(f"study '{record.study}': the text of '{name}' is a {type(text).__name__}, not a string")
    for name, files in record.files.items():
        if not isinstance(files, (tuple, list)):
            raise UserError(f"study '{record.study}': the files of '{name}' are a {type(files).__name__}, not a tuple")


def _failed(source: DataSource, verb: str, error: Exception) -> str:
    cause = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return f"data set '{source.name}': cannot {verb} {source.root}: {cause}"
