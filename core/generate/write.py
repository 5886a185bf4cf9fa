"""Generated studies on disk: a folder each, files with provenance, tables and a contact sheet."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from core.engine.progress import progress
from core.generate.bundle import Bundle
from core.generate.output.contact_sheet import columns_of, contact_sheet, write_sheet
from core.generate.output.folder import SHEET, Command, OutputFolder, add_study, open_output, study_name
from core.generate.output.manifest import write_manifests
from core.generate.output.study_record import StudyRecord
from core.generate.output.writers import StudyNotes, write_study, writers_of
from core.generate.pipeline import in_batches
from core.generate.request import (
    GenerationRequest,
    ResolvedRequest,
    StudyRequest,
    generate_batches,
    provenance_of,
    resolve_request,
    shown_samples,
    study_samples,
)
from core.types import Batch, Sample

MOST_SHOWN = 16  # studies on the contact sheet


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyJob:
    """A study to generate: the name of its folder, the request that it belongs to, and what else its record says."""

    name: str
    request: StudyRequest
    notes: StudyNotes = field(default_factory=StudyNotes)


class StudyWriter:
    """Writes generated studies that are ``missing`` in a folder, and retains those that its contact sheet shows."""

    def __init__(
        self, writers: Mapping[str, Any], folder: Path, missing: Collection[str], on_sheet: Collection[str]
    ) -> None:
        self.writers, self.folder, self.missing, self.on_sheet = writers, folder, missing, on_sheet
        self.shown: dict[str, dict[str, Sample]] = {}

    def write(self, jobs: Sequence[StudyJob], batches: Mapping[str, Batch]) -> None:
        """Write what is missing of the generated studies; row ``i`` of every batch is of job ``i``."""
        for row, job in enumerate(jobs):
            if job.name in self.missing or job.name in self.on_sheet:
                self._write_study(job, batches, row)  # one at a time: a given volume may have a fine grid

    def _write_study(self, job: StudyJob, batches: Mapping[str, Batch], row: int) -> None:
        resolved, index = job.request.resolved, job.request.index
        study = study_samples(resolved, batches, row)
        if job.name in self.missing:
            write = partial(write_study, resolved, self.writers, index, study, job.name, job.notes)
            add_study(self.folder, job.name, write)
        if job.name in self.on_sheet:
            self.shown[job.name] = shown_samples(study, batches, row)


def finish_folder(
    bundle: Bundle, output: OutputFolder, studies: Sequence[str], shown: Mapping[str, Mapping[str, Sample]]
) -> None:
    """Write the tables of these studies and the contact sheet; `UserError` where one of them is gone."""
    output.require_studies(studies)
    records = {name: StudyRecord.read(output.folder / name) for name in studies}
    write_manifests(output.folder, [*records.values()])
    columns = columns_of(bundle.run, output.command.files)
    rows = {name: shown[name] for name in studies if name in shown}
    sheet = contact_sheet([*rows.values()], columns, [records[name].title() for name in rows])
    write_sheet(sheet, output.folder / SHEET, command=json.dumps(output.command.settings))


def write_studies(
    bundle: Bundle, request: GenerationRequest, folder: Path, *, format: str | None = None, overwrite: bool = False
) -> None:
    """Generate and write the studies of a request; nothing is written where it is wrong.

    Studies that the same request has written to the folder before stay, and those that are missing are generated.
    ``format``: that of every output, by the name of an export; ``None``: each modality's default.
    """
    resolved, writers = resolve_request(bundle, request), writers_of(bundle.run, request.outputs, format)
    command = _command(resolved, writers, format)
    with open_output(folder, command, overwrite=overwrite) as output:
        if output.finished():
            return
        names = list(command.studies())
        missing, on_sheet = output.missing(names), frozenset(names[:MOST_SHOWN])
        writer, begun = StudyWriter(writers, folder, missing, on_sheet), False
        with progress("generate", request.num) as watch:
            for indices in in_batches(request.num, request.batch):
                jobs = [StudyJob(name=study_name(index), request=StudyRequest(resolved, index)) for index in indices]
                if not (missing | on_sheet).isdisjoint(job.name for job in jobs):
                    batches = generate_batches([job.request for job in jobs])
                    if not begun:  # nothing is removed before the first study is generated
                        output.begin()
                        begun = True
                    writer.write(jobs, batches)
                watch(indices[-1] + 1)
        finish_folder(bundle, output, names, writer.shown)


def _command(resolved: ResolvedRequest, writers: Mapping[str, Any], format: str | None) -> Command:
    """Return all that the bytes of the studies depend on."""
    settings = provenance_of(resolved, 0).model_dump(mode="json", exclude={"index"})
    return Command(
        resolved.request.num,
        files_of(writers),
        settings | execution_settings(resolved.bundle, resolved.request, format),
    )


def files_of(writers: Mapping[str, Any]) -> dict[str, str]:
    """Return the file names of a study by modality."""
    return {name: f"{name}{writer.suffix}" for name, writer in writers.items()}


def execution_settings(bundle: Bundle, request: GenerationRequest, format: str | None) -> dict[str, Any]:
    """Return what the bytes of files depend on beside their provenance."""
    return {"batch": request.batch, "device": str(bundle.networks.compute.device), "format": format}
