"""How studies are written: each output in a format of its modality, the files that refer to others last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.contract.build import build_part
from core.errors import UserError, join_choices, nearest
from core.flow.run import Run
from core.generate.output.study_record import DIGEST, StudyRecord, digests_of
from core.generate.request import ResolvedRequest, provenance_of
from core.types import Sample


def writers_of(run: Run, outputs: Sequence[str], format: str | None) -> dict[str, Any]:
    """Return a writer per output; `UserError` names an unknown format, and the outputs that cannot be written."""
    if format is None:
        return {name: _default_writer(run, name) for name in outputs}
    exports = {name: run.parts(name).exports for name in outputs}
    known = {name for formats in exports.values() for name in formats}
    if format not in known:
        raise UserError(
            f"--format {format}: no output has this format (they have: {join_choices(known)}){nearest(format, known)};"
            " leave --format out for each modality's own"
        )
    lacking = [name for name, formats in exports.items() if format not in formats]
    if lacking:
        raise UserError(
            f"--format {format}: {', '.join(lacking)} cannot be written so (can: "
            f"{join_choices(name for name in outputs if name not in lacking)}); name the others with --output"
        )
    return {name: build_part(formats[format], f"{name}.exports.{format}") for name, formats in exports.items()}


def in_order(writers: Mapping[str, Any]) -> list[str]:
    """Return the outputs in the order of writing: one that refers to another file of its study is written after it."""
    return sorted(writers, key=lambda name: getattr(writers[name], "refers_to", None) is not None)


@dataclass(frozen=True, kw_only=True)
class StudyNotes:
    """What a table says of a study beside its inputs; see `StudyRecord`."""

    labels: Mapping[str, str] = field(default_factory=dict)
    split: Literal["", "train", "validation", "test"] = ""


def write_study(
    resolved: ResolvedRequest,
    writers: Mapping[str, Any],
    index: int,
    samples: Mapping[str, Sample],
    name: str,
    notes: StudyNotes,
    folder: Path,
) -> None:
    """Write the files of study ``name`` and its record into a folder; each file names the inputs that it depends on."""
    for output in in_order(writers):
        writer = writers[output]
        writer.write(samples[output], folder / f"{output}{writer.suffix}", provenance_of(resolved, index, output))
    record = _record(resolved, writers, index, samples, name, notes)
    record.model_copy(update={"sha256": digests_of(folder)}).write(folder)


def _record(
    resolved: ResolvedRequest,
    writers: Mapping[str, Any],
    index: int,
    samples: Mapping[str, Sample],
    name: str,
    notes: StudyNotes,
) -> StudyRecord:
    from core.io.dicom.new_instance import patient_id

    generated = [sample.data for sample in samples.values() if isinstance(sample.data, str)]
    prompts = {prompt: each.shown for prompt, each in resolved.prompts.items()}
    texts = [text for text in prompts.values() if not text.startswith(DIGEST)]
    report = next(iter([*generated, *texts]), "")
    report_from = "generated" if generated else "prompt" if report else ""
    labels, find = dict(notes.labels), resolved.bundle.findings_of
    if not labels and report and find is not None:
        labels = {finding: str(value) for finding, value in find(report).items()}
    return StudyRecord(
        study_id=name,
        patient_id=patient_id(provenance_of(resolved, index)),
        files={output: f"{output}{writer.suffix}" for output, writer in writers.items()},
        seed=resolved.request.seed,
        index=index,
        prompts=prompts,
        negative_prompts={prompt: each.shown for prompt, each in resolved.negative.items()},
        conditions={condition: each.shown for condition, each in resolved.given.items()},
        report=report,
        report_from=report_from,
        labels=labels,
        labels_from="table" if notes.labels else report_from if labels else "",
        split=notes.split,
    )


def _default_writer(run: Run, name: str) -> Any:
    writer = run.parts(name).writer
    if writer is None:
        raise UserError(f"modality '{name}' has no writer at preset '{run.config.preset}'; leave it out")
    return build_part(writer, f"{name}.writer")
