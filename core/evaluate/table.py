"""The rows of the table that a run ends with, and how they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from core.evaluate.bootstrap import ConfidenceInterval

_PHASES = {"autoencoder": "autoencoders", "align": "alignment", "diffuse": "denoisers", "guide": "cross-guidance"}


@dataclass(frozen=True)
class MetricRow:
    """One row of the table: a metric on held-out studies, and what it is compared with.

    ``reference`` is its chance level, upper bound or starting value. ``low`` and ``high`` bound the 95 % confidence
    interval by patient, where there is one. ``key`` names the metric, such as ``outline/real/ct+mri``, for those rows
    that a verdict is built on (`core.evaluate.verdicts`). ``section``: the measure that it is of.
    """

    phase: str
    what: str
    value: float
    reference: str = ""
    low: float | None = None
    high: float | None = None
    key: str = ""
    section: str = ""

    @property
    def heading(self) -> str:
        """Return the heading under which the row is shown."""
        return self.section or _PHASES.get(self.phase, self.phase)

    @property
    def interval(self) -> str:
        """Return ``[0.412, 0.498]``, or an empty string."""
        return "" if self.low is None or self.high is None else f"[{self.low:.3f}, {self.high:.3f}]"


def metric_row(what: str, measured: ConfidenceInterval, reference: str = "", *, key: str = "") -> MetricRow:
    """Return a row of the phase ``measure``, with its interval."""
    return MetricRow("measure", what, measured.value, reference, measured.low, measured.high, key)


def sections(table: Sequence[MetricRow]) -> list[tuple[str, list[MetricRow]]]:
    """Return the rows of a table by heading, in their order."""
    return [(heading, list(rows)) for heading, rows in groupby(table, lambda row: row.heading)]


def as_text(table: Sequence[MetricRow]) -> str:
    """Return the table in aligned columns, below the heading of each section."""
    what = max((len(row.what) for row in table), default=0)
    interval = max((len(row.interval) for row in table), default=0)
    parts = []
    for heading, rows in sections(table):
        lines = (
            f"  {row.what:<{what}}  {row.value:8.4f}  {row.interval:<{interval}}  {row.reference}".rstrip()
            for row in rows
        )
        parts.append("\n".join((heading, *lines)))
    return "\n\n".join(parts)
