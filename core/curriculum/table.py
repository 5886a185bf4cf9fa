"""The final table of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A row: what was measured, on held-out studies, beside its chance level or start."""

    phase: str
    what: str
    value: float
    beside: str = ""


def as_text(table: Sequence[Line]) -> str:
    """The table in aligned columns."""
    width = max((len(line.what) for line in table), default=0)
    return "\n".join(
        f"{line.phase:<12}{line.what:<{width}}  {line.value:8.4f}  {line.beside}".rstrip() for line in table
    )
