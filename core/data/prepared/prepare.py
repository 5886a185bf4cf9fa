"""Scan, manifest, audit and cache of one data set: parallel, resumable, flat in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from core.data.audit.examine import examine
from core.data.audit.file_facts import Facts
from core.data.audit.findings import Finding, as_json
from core.data.audit.population import Population
from core.data.prepared.chunks import portions_of, prepare_portion, told_of
from core.data.prepared.manifest import FILE, read_manifest, write_manifest
from core.data.prepared.samples import name_in, text_name
from core.data.prepared.settings import Settings
from core.data.prepared.shards import write_index
from core.engine.checkpoint import write_json
from core.engine.progress import progress
from core.engine.workers import in_order
from core.errors import UserError
from core.io.lock import folder_lock
from core.types import Record

AUDIT = "audit.json"
Chooser = Callable[[Sequence[str]], Mapping[str, Settings]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What shall be prepared.

    ``records`` are found anew and go into the manifest as they are; ``split`` gives each its split. ``choose`` tells,
    of the modalities that were found, how those that are prepared are read. ``keep``: samples too, not the audit alone.
    """

    dataset: str
    root: Path
    out: Path
    preset: str
    source: str
    records: Iterable[Record]
    split: Callable[[Record], Record]
    choose: Chooser
    keep: bool = True
    workers: int = 1
    silent: bool = False

    @property
    def folder(self) -> Path:
        """Where what depends on the preset goes."""
        return self.out / self.preset


@dataclass(kw_only=True)
class Report:
    """What was found and made: files by modality, and samples that are kept."""

    findings: list[Finding] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    read: int = 0


def prepare(order: Order) -> Report:
    """Write the manifest, then tell of every file and keep its sample; what is there and fresh is left as it is.

    `UserError`: there is no study, none of the chosen modalities, or nothing can be written. A broken file is a row of
    the table.
    """
    _require_apart(order)
    with folder_lock(order.out, (order.preset, f"{order.preset}/*")):
        _make(order.folder)
        population, manifest = Population(), order.out / FILE
        said = _scan(order, population)
        if not population.num:
            manifest.unlink()
            raise UserError(f"data set '{order.dataset}': no study under {order.root}; check its root and its adapter")
        settings = order.choose(population.modalities)
        for one in settings.values():
            one.require()
        report = Report(files={name: population.files[name] for name in settings})
        numbers = _read_all(order, settings, report)
        lost, examined = set[tuple[str, str]](), list[Finding]()
        for name, one in settings.items():
            examined += examine(name, one.spec, _noted(told_of(order.folder / name, numbers[name]), name, lost))
        _lose(order, population, lost)
        report.findings = [*said, *population.findings(tuple(settings)), *_left_out(population, settings), *examined]
        write_json(order.folder / AUDIT, as_json(report.findings, _about(order, population, report)))
    return report


def _scan(order: Order, population: Population) -> list[Finding]:
    """Write the manifest; what the adapter warned of, such as files of its tables that are not there."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_manifest(order.out / FILE, _counted(order, population), order.root, order.source)
    said = dict.fromkeys(" ".join(str(one.message).split()) for one in caught)
    return [Finding(check="said by the scan", verdict="warning", told=one, count=1) for one in said]


def _counted(order: Order, population: Population) -> Iterator[Record]:
    for record in order.records:
        population.add(order.split(record))
        yield record


def _read_all(order: Order, settings: Mapping[str, Settings], report: Report) -> dict[str, int]:
    """Every portion of every modality; the number of portions of each."""
    for name in settings:
        _make(order.folder / name)
    records = map(order.split, read_manifest(order.out / FILE, order.root))
    portions = portions_of(records, settings, order.root, order.folder, keep=order.keep)
    numbers, done = dict.fromkeys(settings, 0), 0
    with progress(f"prepare {order.dataset}", sum(report.files.values()), silent=order.silent) as watch:
        for outcome in in_order(prepare_portion, portions, order.workers):
            numbers[outcome.modality] = outcome.number + 1
            done += outcome.files
            report.read += outcome.files if outcome.read else 0
            watch(done)
    for name, one in settings.items():
        _remove_rest(order.folder / name, numbers[name])
        if order.keep:
            write_index(order.folder / name, numbers[name], one.digest)
    return numbers


def _noted(told: Iterable[Facts], name: str, lost: set[tuple[str, str]]) -> Iterator[Facts]:
    """The same, one by one; of what training will leave out, modality and name are noted."""
    for facts in told:
        if "fault" in facts and facts["taken"]:
            lost.add((name, facts["file"] or text_name(facts["patient"], facts["study"])))
        yield facts


def _lose(order: Order, population: Population, lost: Collection[tuple[str, str]]) -> None:
    """Correct what was counted of studies before their files were read."""
    for record in read_manifest(order.out / FILE, order.root) if lost else ():
        held = (name for name in {**record.files, **record.texts} if record.has(name))
        names = [name for name in held if (name, name_in(record, name, order.root)) in lost]
        if names:
            population.lose(order.split(record), names)


def _remove_rest(folder: Path, num: int) -> None:
    """What a larger data set of this name left behind the last portion."""
    for path in folder.glob("[0-9]*.*"):
        if path.stem.isdecimal() and int(path.stem) >= num:
            with suppress(OSError):
                path.unlink()


def _left_out(population: Population, settings: Mapping[str, Settings]) -> Iterator[Finding]:
    for name in population.modalities:
        if name not in settings:
            num = population.files[name]
            told = f"{num:,} files are left out: not chosen, not installed, or not at this preset"
            yield Finding(check="not prepared", where=name, told=told, count=num, num=num)


def _about(order: Order, population: Population, report: Report) -> dict[str, object]:
    return {
        "dataset": order.dataset,
        "preset": order.preset,
        "studies": population.num,
        "patients": population.num_patients,
        "files": report.files,
    }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made: {error.strerror or error}; name another folder with --out"
        ) from error


def _require_apart(order: Order) -> None:
    """`UserError` where the prepared folder would lie in the data, whose next scan would find it, or the data in it."""
    out, root = order.out.resolve(), order.root.resolve()
    if out.is_relative_to(root):
        raise UserError(f"{order.out} lies in the data set's folder {order.root}; name another one with --out")
    if root.is_relative_to(out):
        raise UserError(f"{order.out} holds the data set's folder {order.root}; name a folder of its own with --out")
