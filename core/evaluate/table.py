"""The rows of the table that a run ends with, and how they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.evaluate.bootstrap import ConfidenceInterval


@dataclass(frozen=True)
class MetricRow:
    """One row of the table: a metric on held-out studies, and what it is compared with.

    ``reference`` is its chance level, upper bound or starting value. ``low`` and ``high`` bound the 95 % confidence
    interval by patient, where there is one. ``key`` names the metric, such as ``outline/real/ct+mri``, for those rows
    that a verdict is built on (`core.evaluate.verdicts`).
    """

    phase: str
    what: str
    value: float
    reference: str = ""
    low: float | None = None
    high: float | None = None
    key: str = ""

    @property
    def interval(self) -> str:
        """Return ``[0.412, 0.498]``, or an empty string."""
        return "" if self.low is None or self.high is None else f"[{self.low:.3f}, {self.high:.3f}]"


def metric_row(what: str, measured: ConfidenceInterval, reference: str = "", *, key: str = "") -> MetricRow:
    """Return a row of the phase ``measure``, with its interval."""
    return MetricRow("measure", what, measured.value, reference, measured.low, measured.high, key)


def as_text(table: Sequence[MetricRow]) -> str:
    """Return the table in aligned columns."""
    what = max((len(row.what) for row in table), default=0)
    interval = max((len(row.interval) for row in table), default=0)
    lines = (
        f"{row.phase:<12}{row.what:<{what}}  {row.value:8.4f}  {row.interval:<{interval}}  {row.reference}"
        for row in table
    )
    return "\n".join(line.rstrip() for line in lines)
