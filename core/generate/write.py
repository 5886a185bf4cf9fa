"""Generated studies on disk: a folder each, files with provenance, a manifest and a contact sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from core.engine.progress import progress
from core.generate.bundle import Bundle
from core.generate.contact_sheet import contact_sheet, write_sheet
from core.generate.output_folder import SHEET, Command, OutputFolder, open_output
from core.generate.pipeline import in_batches
from core.generate.request import (
    GenerationRequest,
    ResolvedRequest,
    generate_batches,
    provenance_of,
    resolve_request,
    shown_samples,
    study_samples,
)
from core.generate.writers import write_study, writers_of
from core.types import Sample

_MOST_SHOWN = 16  # studies on the contact sheet


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
        shown = _write_missing(resolved, writers, output)
        output.write_manifest()
        titles = {name: bundle.run.modalities[name].title for name in request.outputs}
        rows = [f"study {index}" for index in range(len(shown))]
        write_sheet(contact_sheet(shown, titles, rows), folder / SHEET, command=json.dumps(command.settings))


def _write_missing(
    resolved: ResolvedRequest, writers: Mapping[str, Any], output: OutputFolder
) -> list[dict[str, Sample]]:
    """Generate the missing studies, in the batches of an undisturbed run; return what the contact sheet shows."""
    shown: list[dict[str, Sample]] = []
    with progress("generate", resolved.request.num) as watch:
        for indices in in_batches(resolved.request.num, resolved.request.batch):
            missing = [index for index in indices if not output.has(index)]
            if missing or indices[0] < _MOST_SHOWN:
                batches = generate_batches(resolved, indices)
                for row, index in enumerate(indices):
                    if index not in missing and index >= _MOST_SHOWN:
                        continue
                    study = study_samples(resolved, batches, row)  # one at a time: a given volume may have a fine grid
                    if index in missing:
                        output.add(index, partial(write_study, resolved, writers, index, study))
                    if index < _MOST_SHOWN:
                        shown.append(shown_samples(study, batches, row))
            watch(indices[-1] + 1)
    return shown


def _command(resolved: ResolvedRequest, writers: Mapping[str, Any], format: str | None) -> Command:
    """Return all that the bytes of the studies depend on."""
    bundle, request = resolved.bundle, resolved.request
    settings = provenance_of(resolved, 0).model_dump(mode="json", exclude={"index"})
    settings |= {"batch": request.batch, "device": str(bundle.networks.compute.device), "format": format}
    files = {name: f"{name}{writer.suffix}" for name, writer in writers.items()}
    return Command(request.num, files, settings)
