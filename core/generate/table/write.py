"""Generate the studies of a table: batched over rows, by several processes, resumable, and in shards.

A row that fails is listed with its reason, the others go on, and the next run of the command tries the failed ones
alone.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.config.sampler import DEFAULT
from core.data.fingerprint import file_fingerprint
from core.engine.progress import progress
from core.engine.workers import Workers
from core.errors import UserError, unknown_name
from core.generate.bundle import Bundle
from core.generate.inputs import is_file, is_folder
from core.generate.output.folder import FAILURES, Command, OutputFolder, open_output
from core.generate.output.writers import writers_of
from core.generate.reading import split_choice
from core.generate.request import GenerationRequest, common_provenance, require_outputs
from core.generate.table.merge import commands_of, take_over
from core.generate.table.plan import PlannedStudy, Shard, planned_batches
from core.generate.table.read import Failure, RequestTable
from core.generate.table.row import TableRow
from core.generate.table.work import BatchTask, TableSetup, generate_batch, require_usable_row, use_bundle
from core.generate.write import MOST_SHOWN, execution_settings, files_of, finish_folder
from core.io import atomic_write
from core.types import Sample


@dataclass(frozen=True, kw_only=True)
class TableCommand:
    """How a table is generated. ``common``: what all rows share; its inputs are none, and its seed is the command's.

    ``merged``: folders of shards whose studies are taken over. ``registry``: the file that other processes read.
    """

    table: RequestTable
    common: GenerationRequest
    format: str | None = None
    shard: Shard = field(default_factory=Shard)
    merged: Sequence[Path] = ()
    registry: Path | None = None

    def batches(self) -> list[list[PlannedStudy]]:
        """Return the studies by batch; `UserError` where no row can be used. A shard may have none."""
        table = self.table
        if not table.rows:
            first = table.failures[0]
            raise UserError(f"no row of the table can be used; line {first.line}, {first.study}: {first.reason}")
        return planned_batches(table.rows, self.common.batch, self.shard)


def write_table(
    bundle: Bundle, command: TableCommand, folder: Path, workers: Workers, *, overwrite: bool = False
) -> list[Failure]:
    """Generate and write the studies of a table, or of its shard; return the rows and studies that failed.

    Studies that an earlier run has written stay. A table that has grown is gone on with; one with changed rows is
    refused with `UserError`, as is whatever is wrong for all rows. Nothing is written for a shard without studies.
    """
    require_outputs(bundle, command.common.outputs)
    _require_guided_outputs(command)
    writers = writers_of(bundle.run, command.common.outputs, command.format)
    batches = command.batches()
    names = [study.name for batch in batches for study in batch]
    if any(merged.resolve() == folder.resolve() for merged in command.merged):
        raise UserError(f"--merge {folder}: is the folder of --out too; name another one with --out")
    if not names:  # of this shard
        return list(command.table.failures)
    wanted = _output_command(bundle, command, writers, batches)
    merged = commands_of(command.merged, wanted)
    with open_output(folder, wanted, overwrite=overwrite) as output:
        if output.finished() and not command.table.failures:
            _write_failures(folder, [])
            return []
        setup = _setup(bundle, command, folder)
        use_bundle(setup, bundle)
        require_usable_row(setup, batches)  # nothing is removed for a table of which no row can be used
        output.begin()
        take_over(output, merged)
        tasks = list(_tasks(setup, output, batches))
        failures, shown = _done(tasks, workers, len(names))
        failures = sorted([*command.table.failures, *failures], key=lambda failure: failure.line)
        failed = {failure.study for failure in failures}
        _write_failures(folder, failures)
        written = [name for name in names if name not in failed]
        if written:
            finish_folder(bundle, output, written, shown)
    return failures


def _setup(bundle: Bundle, command: TableCommand, folder: Path) -> TableSetup:
    return TableSetup(
        run=bundle.networks.folder.resolve(),
        registry=command.registry,
        device=str(bundle.networks.compute.device),
        inputs=command.table.folder.resolve(),
        out=folder.resolve(),
        common=command.common,
        format=command.format,
    )


def _tasks(setup: TableSetup, output: OutputFolder, batches: Sequence[Sequence[PlannedStudy]]) -> Iterator[BatchTask]:
    """Yield a task for every batch with a study that is missing, or that the contact sheet shows."""
    names = [study.name for batch in batches for study in batch]
    missing, on_sheet = output.missing(names), frozenset(names[:MOST_SHOWN])
    for batch in batches:
        held = frozenset(study.name for study in batch)
        if held & (missing | on_sheet):
            yield BatchTask(setup=setup, studies=tuple(batch), missing=held & missing, on_sheet=held & on_sheet)


def _require_guided_outputs(command: TableCommand) -> None:
    """Raise `UserError` for a scale of what is no output: no row could use it."""
    for row in command.table.rows:
        for name in (*row.guidance_scale, *row.context_scale):
            if name not in (DEFAULT, *command.common.outputs):
                raise unknown_name(f"output for a scale in line {row.line}", name, command.common.outputs)


def _done(
    tasks: Sequence[BatchTask], workers: Workers, total: int
) -> tuple[list[Failure], dict[str, Mapping[str, Sample]]]:
    """Let the workers do the tasks; return what failed, and what the contact sheet shows."""
    failures: list[Failure] = []
    shown: dict[str, Mapping[str, Sample]] = {}
    done = total - sum(len(task.studies) for task in tasks)
    with progress("generate", total) as watch:
        for outcome in workers.in_order(generate_batch, tasks):
            failures += outcome.failures
            shown |= outcome.shown
            done += outcome.size
            watch(done)
    return failures, shown


def _output_command(
    bundle: Bundle, command: TableCommand, writers: Mapping[str, Any], batches: Sequence[Sequence[PlannedStudy]]
) -> Command:
    settings = common_provenance(bundle, command.common) | execution_settings(bundle, command.common, command.format)
    settings["shard"] = str(command.shard)
    digests = {study.row.study_id: _digest(study.row, command.table.folder) for batch in batches for study in batch}
    rows = {study.name: digests[study.row.study_id] for batch in batches for study in batch}
    return Command(len(rows), files_of(writers), settings, rows)


def _digest(row: TableRow, folder: Path) -> str:
    """Return a name for what a row asks for and for the files that it names, at a glance at each."""
    values = [value for table in (row.prompt, row.negative_prompt, row.condition) for value in table.values()]
    paths = [folder / split_choice(value)[0] for value in values]
    seen = [file_fingerprint(path) for path in paths if is_file(str(path)) or is_folder(str(path))]
    return hashlib.sha256(b"".join([row.digest().encode(), *seen])).hexdigest()[:16]


def _write_failures(folder: Path, failures: Sequence[Failure]) -> None:
    """Write the failed rows as a table; none is left of an earlier run where none failed."""
    path = folder / FAILURES
    if not failures:
        path.unlink(missing_ok=True)
        return
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("line", "study_id", "reason"))
    writer.writerows((failure.line, failure.study, failure.reason) for failure in failures)
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8")
