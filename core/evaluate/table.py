"""The final table of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.evaluate.bootstrap import Interval


@dataclass(frozen=True)
class Line:
    """A row: what was measured, on held-out studies, beside its chance level, ceiling or start.

    ``low`` and ``high`` bound its 95 % interval by patient, where it has one.
    """

    phase: str
    what: str
    value: float
    beside: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> str:
        """``[0.412, 0.498]``, or nothing."""
        return "" if self.low is None or self.high is None else f"[{self.low:.3f}, {self.high:.3f}]"


def line(what: str, found: Interval, beside: str = "") -> Line:
    """A row of what was measured last, with its interval."""
    return Line("measure", what, found.value, beside, found.low, found.high)


def as_text(table: Sequence[Line]) -> str:
    """The table in aligned columns."""
    what = max((len(line.what) for line in table), default=0)
    interval = max((len(line.interval) for line in table), default=0)
    rows = (
        f"{line.phase:<12}{line.what:<{what}}  {line.value:8.4f}  {line.interval:<{interval}}  {line.beside}"
        for line in table
    )
    return "\n".join(row.rstrip() for row in rows)
