"""The writers of the outputs: each modality's own, or all of one format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.contract.build import build_part
from core.errors import UserError, listed, nearest
from core.flow.run import Run


def writers_of(run: Run, outputs: Sequence[str], format: str | None) -> dict[str, Any]:
    """A writer per output; `UserError` names an unknown format, and the outputs that cannot be written."""
    if format is None:
        return {name: _own(run, name) for name in outputs}
    exports = {name: run.parts(name).exports for name in outputs}
    known = {one for formats in exports.values() for one in formats}
    if format not in known:
        raise UserError(
            f"--format {format}: no output has this format (they have: {listed(known)}){nearest(format, known)}; leave"
            " --format out for each modality's own"
        )
    lacking = [name for name, formats in exports.items() if format not in formats]
    if lacking:
        raise UserError(
            f"--format {format}: {', '.join(lacking)} cannot be written so (can: "
            f"{listed(name for name in outputs if name not in lacking)}); name the others with --output"
        )
    return {name: build_part(formats[format], f"{name}.exports.{format}") for name, formats in exports.items()}


def in_order(writers: Mapping[str, Any]) -> list[str]:
    """The outputs as they are written: one that refers to another file of its study (``refers_to``) comes after it."""
    return sorted(writers, key=lambda name: getattr(writers[name], "refers_to", None) is not None)


def _own(run: Run, name: str) -> Any:
    writer = run.parts(name).writer
    if writer is None:
        raise UserError(f"modality '{name}' has no writer at preset '{run.config.preset}'; leave it out")
    return build_part(writer, f"{name}.writer")
