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
from core.data.prepared.chunks import iter_chunks, prepare_chunk, read_facts
from core.data.prepared.manifest import FILE, read_manifest, write_manifest
from core.data.prepared.samples import name_in, text_name
from core.data.prepared.settings import Settings
from core.data.prepared.shards import write_index
from core.engine.checkpoint import write_json
from core.engine.progress import progress
from core.engine.workers import Workers
from core.errors import UserError
from core.io.lock import folder_lock
from core.types import Record

AUDIT = "audit.json"
Chooser = Callable[[Sequence[str]], Mapping[str, Settings]]


@dataclass(frozen=True, kw_only=True)
class PrepareRequest:
    """What shall be prepared.

    ``records`` come from a new scan and go into the manifest as they are; ``split`` gives each its split. ``choose``
    maps the modalities that the scan lists to how each is read. ``keep``: write samples too, not the audit alone.
    ``computed``: whether the data set is made by a program, whose files may say that they were generated.
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
    computed: bool = False
    workers: Workers = field(default_factory=Workers)
    silent: bool = False

    @property
    def folder(self) -> Path:
        """Return the folder for what depends on the preset."""
        return self.out / self.preset


@dataclass(kw_only=True)
class Report:
    """The findings, the number of files by modality, and how many of them were read now."""

    findings: list[Finding] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    read: int = 0


def prepare(request: PrepareRequest) -> Report:
    """Write the manifest, then the facts of every file and its sample; what is there and fresh is left as it is.

    `UserError`: there is no study, none of the chosen modalities, or nothing can be written. A broken file is a row of
    the table.
    """
    _require_apart(request)
    with folder_lock(request.out, (request.preset, f"{request.preset}/*")):
        _make(request.folder)
        population, manifest = Population(), request.out / FILE
        scan_warnings = _scan(request, population)
        if not population.num:
            manifest.unlink()
            raise UserError(
                f"data set '{request.dataset}': no study under {request.root}; check its root and its adapter"
            )
        settings = request.choose(population.modalities)
        for setting in settings.values():
            setting.require()
        report = Report(files={name: population.files[name] for name in settings})
        numbers = _read_all(request, settings, report)
        excluded, examined = set[tuple[str, str]](), list[Finding]()
        for name, setting in settings.items():
            facts = _noting_excluded(read_facts(request.folder / name, numbers[name]), name, excluded)
            examined += examine(name, setting.spec, facts, computed=request.computed)
        _exclude(request, population, excluded)
        counted = population.findings(tuple(settings))
        report.findings = [*scan_warnings, *counted, *_not_prepared(population, settings), *examined]
        write_json(request.folder / AUDIT, as_json(report.findings, _about(request, population, report)))
    return report


def _scan(request: PrepareRequest, population: Population) -> list[Finding]:
    """Write the manifest; return the warnings of the adapter, such as files of its tables that are not there."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_manifest(request.out / FILE, _counted(request, population), request.root, request.source)
    messages = dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught)
    return [Finding(check="scan warnings", verdict="warning", message=message, count=1) for message in messages]


def _counted(request: PrepareRequest, population: Population) -> Iterator[Record]:
    for record in request.records:
        population.add(request.split(record))
        yield record


def _read_all(request: PrepareRequest, settings: Mapping[str, Settings], report: Report) -> dict[str, int]:
    """Prepare every chunk of every modality; return the number of chunks of each."""
    for name in settings:
        _make(request.folder / name)
    records = map(request.split, read_manifest(request.out / FILE, request.root))
    chunks = iter_chunks(records, settings, request.root, request.folder, keep=request.keep)
    numbers, done = dict.fromkeys(settings, 0), 0
    with progress(f"prepare {request.dataset}", sum(report.files.values()), silent=request.silent) as watch:
        for outcome in request.workers.in_order(prepare_chunk, chunks):
            numbers[outcome.modality] = outcome.number + 1
            done += outcome.files
            report.read += outcome.files if outcome.read else 0
            watch(done)
    for name, setting in settings.items():
        _remove_rest(request.folder / name, numbers[name])
        if request.keep:
            write_index(request.folder / name, numbers[name], setting.digest)
    return numbers


def _noting_excluded(files: Iterable[Facts], name: str, excluded: set[tuple[str, str]]) -> Iterator[Facts]:
    """Yield the same facts; add the modality and name of each file that training will leave out to ``excluded``."""
    for facts in files:
        if "fault" in facts and facts["taken"]:
            excluded.add((name, facts["file"] or text_name(facts["patient"], facts["study"])))
        yield facts


def _exclude(request: PrepareRequest, population: Population, excluded: Collection[tuple[str, str]]) -> None:
    """Correct the counts of studies, which were counted before their files were read."""
    for record in read_manifest(request.out / FILE, request.root) if excluded else ():
        held = (name for name in {**record.files, **record.texts} if record.has(name))
        names = [name for name in held if (name, name_in(record, name, request.root)) in excluded]
        if names:
            population.exclude(request.split(record), names)


def _remove_rest(folder: Path, num: int) -> None:
    """Remove what a larger data set of this name left behind the last chunk."""
    for path in folder.glob("[0-9]*.*"):
        if path.stem.isdecimal() and int(path.stem) >= num:
            with suppress(OSError):
                path.unlink()


def _not_prepared(population: Population, settings: Mapping[str, Settings]) -> Iterator[Finding]:
    for name in population.modalities:
        if name not in settings:
            num = population.files[name]
            message = f"{num:,} files are left out: not chosen, not installed, or not at this preset"
            yield Finding(check="not prepared", where=name, message=message, count=num, num=num)


def _about(request: PrepareRequest, population: Population, report: Report) -> dict[str, object]:
    return {
        "dataset": request.dataset,
        "preset": request.preset,
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


def _require_apart(request: PrepareRequest) -> None:
    """`UserError` where the prepared folder would lie in the data, whose next scan would find it, or the data in it."""
    out, root = request.out.resolve(), request.root.resolve()
    if out.is_relative_to(root):
        raise UserError(f"{request.out} lies in the data set's folder {request.root}; name another one with --out")
    if root.is_relative_to(out):
        raise UserError(f"{request.out} holds the data set's folder {request.root}; name a separate folder with --out")
