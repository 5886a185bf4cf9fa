"""How studies are written: each output in a format of its modality, the files that refer to others last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.contract.build import build_part
from core.errors import UserError, join_choices, nearest
from core.flow.run import Run
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


def write_study(
    resolved: ResolvedRequest, writers: Mapping[str, Any], index: int, samples: Mapping[str, Sample], folder: Path
) -> None:
    """Write the files of one study into a folder; each names the inputs that it depends on."""
    for name in in_order(writers):
        writer = writers[name]
        writer.write(samples[name], folder / f"{name}{writer.suffix}", provenance_of(resolved, index, name))


def _default_writer(run: Run, name: str) -> Any:
    writer = run.parts(name).writer
    if writer is None:
        raise UserError(f"modality '{name}' has no writer at preset '{run.config.preset}'; leave it out")
    return build_part(writer, f"{name}.writer")
