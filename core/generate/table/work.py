"""One batch of a table as a task: any process that reaches the model and the output folder can do it.

A process computes with one thread, so that bytes depend neither on how many processes there are nor on where they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from core.config.installation import load_installation
from core.errors import UserError
from core.generate.bundle import Bundle
from core.generate.inputs import is_file
from core.generate.output.writers import StudyNotes, writers_of
from core.generate.reading import split_choice
from core.generate.request import (
    GenerationRequest,
    ResolvedRequest,
    StudyRequest,
    computed_together,
    generate_batches,
    resolve_request,
    weights_name,
)
from core.generate.sampling_flags import with_scales
from core.generate.sources import open_model
from core.generate.table.plan import PlannedStudy
from core.generate.table.read import Failure
from core.generate.table.row import TableRow
from core.generate.write import StudyJob, StudyWriter
from core.types import Batch, Sample


@dataclass(frozen=True, kw_only=True)
class TableSetup:
    """What all batches of a command share: the model, where inputs and outputs lie, and what holds for all rows."""

    run: Path
    registry: Path | None
    device: str
    inputs: Path
    out: Path
    common: GenerationRequest
    format: str | None


@dataclass(frozen=True, kw_only=True)
class BatchTask:
    """Studies to compute together: those in ``missing`` are written, those in ``on_sheet`` are returned too."""

    setup: TableSetup
    studies: tuple[PlannedStudy, ...]
    missing: frozenset[str]
    on_sheet: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class BatchOutcome:
    """What became of a batch: the studies that failed, and those that the contact sheet shows."""

    size: int
    failures: tuple[Failure, ...]
    shown: Mapping[str, Mapping[str, Sample]]


class _Worker:
    """An open model in a process, with the writers of its outputs."""

    def __init__(self, setup: TableSetup, bundle: Bundle) -> None:
        self.setup, self.bundle, self.weights = setup, bundle, weights_name(bundle)
        self.writers = writers_of(bundle.run, setup.common.outputs, setup.format)
        self._latest: tuple[TableRow, ResolvedRequest] | None = None

    def job(self, study: PlannedStudy) -> StudyJob:
        """Return the job of a study; `UserError` for what is wrong with its row.

        The inputs of a row are read once, as long as its studies follow each other.
        """
        row = study.row
        if self._latest is None or self._latest[0] != row:
            self._latest = row, resolve_request(self.bundle, self._request(row), self.weights)
        notes = StudyNotes(labels=row.label, split=row.split)
        return StudyJob(name=study.name, request=StudyRequest(self._latest[1], study.index), notes=notes)

    def _request(self, row: TableRow) -> GenerationRequest:
        common, config = self.setup.common, self.bundle.run.config
        return replace(
            common,
            prompts=self._inputs(row.prompt),
            negative=self._inputs(row.negative_prompt),
            given=self._inputs(row.condition),
            prompt_weights=row.prompt_weight,
            num=row.num,
            seed=row.seed_of(common.seed),
            sampler=with_scales(common.sampler, row.guidance_scale, row.context_scale, common.outputs, config.aliases),
        )

    def _inputs(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return texts as they are, and files by their path."""
        return {name: self._value(name, value) for name, value in values.items()}

    def _value(self, name: str, value: str) -> str:
        path = str(self.setup.inputs / value)
        is_text = self.bundle.run.parts(name).data.kind == "tokens"
        return value if is_text and not is_file(split_choice(path)[0]) else path


_workers: dict[Path, _Worker] = {}  # by output folder: a process works for one command, and opens its model once


def use_bundle(setup: TableSetup, bundle: Bundle) -> None:
    """Let this process do the tasks of a command with a model that it has opened already."""
    _workers.clear()
    _workers[setup.out] = _Worker(setup, bundle)


def require_usable_row(setup: TableSetup, batches: Sequence[Sequence[PlannedStudy]]) -> None:
    """Raise `UserError`, that of the first study, where no row can be used."""
    worker, first = _worker(setup), None
    for study in (study for batch in batches for study in batch if study.index == 0):
        try:
            worker.job(study)
        except (UserError, OSError) as error:
            first = first or f"line {study.row.line}, {study.name}: {error}"
        else:
            return
    raise UserError(f"no row of the table can be used; {first}")


def generate_batch(task: BatchTask) -> BatchOutcome:
    """Generate and write the studies of a task. What is wrong with a row is a `Failure`.

    Where a batch fails as a whole, its studies are tried one by one. What cannot be written is a `UserError`.
    """
    worker = _worker(task.setup)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        writer = StudyWriter(worker.writers, task.setup.out, task.missing, task.on_sheet)
        failures = tuple(_failures(worker, writer, task.studies))
    finally:
        torch.set_num_threads(threads)
    return BatchOutcome(size=len(task.studies), failures=failures, shown=writer.shown)


def _worker(setup: TableSetup) -> _Worker:
    worker = _workers.get(setup.out)
    if worker is None or worker.setup != setup:
        catalog = load_installation(setup.registry).catalog
        use_bundle(setup, open_model(setup.run, catalog, setup.device))
    return _workers[setup.out]


def _failures(worker: _Worker, writer: StudyWriter, studies: Sequence[PlannedStudy]) -> Iterator[Failure]:
    lines = {study.name: study.row.line for study in studies}
    jobs: list[StudyJob] = []
    for study in studies:
        try:
            jobs.append(worker.job(study))
        except (UserError, OSError) as error:
            yield Failure(study.row.line, study.name, str(error))
    for group in _groups(jobs):
        for computed, batches in _computed(group):
            if isinstance(batches, UserError):
                yield Failure(lines[computed[0].name], computed[0].name, str(batches))
            else:
                writer.write(computed, batches)


def _groups(jobs: Sequence[StudyJob]) -> list[list[StudyJob]]:
    """Return jobs by what can be computed together, in their order."""
    groups: list[list[StudyJob]] = []
    for job in jobs:
        resolved = job.request.resolved
        group = next((each for each in groups if computed_together(each[0].request.resolved, resolved)), None)
        if group is None:
            groups.append([job])
        else:
            group.append(job)
    return groups


def _computed(jobs: Sequence[StudyJob]) -> Iterator[tuple[Sequence[StudyJob], Mapping[str, Batch] | UserError]]:
    """Yield studies with their data, or a single one with its error."""
    result: Mapping[str, Batch] | UserError
    try:
        result = generate_batches([job.request for job in jobs])
    except UserError as error:
        if len(jobs) > 1:
            for job in jobs:
                yield from _computed([job])
            return
        result = error
    yield jobs, result
