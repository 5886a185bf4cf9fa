"""The head of the table: ten questions on a finished run, each with a number, its reference and a verdict.

Every verdict is of the worst of the outputs, pairs and ways that a metric was measured on. An honest summary of
a model that fails in one output says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from core.evaluate.table import MetricRow

Grade = Literal["good", "limited", "poor", "not measured"]
# Ways that are compared with, and not judged.
_REFERENCES = ("real", "reconstructed", "classifier", "other real images", "another patient's prompt")


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A question, the ``kinds`` of rows that answer it, and the ranges in which the answer is good or limited.

    ``reference``: the way whose value is shown for comparison. With ``relative`` the value is divided by it.
    """

    title: str
    kinds: tuple[str, ...]
    good: tuple[float, float]
    limited: tuple[float, float]
    reference: str = ""
    relative: bool = False

    @property
    def threshold(self) -> str:
        """Return the range in which the answer is good, in words."""
        low, high = self.good
        if high == inf:
            return f"good from {low:g}"
        return f"good up to {high:g}" if low == -inf else f"good from {low:g} to {high:g}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer to a criterion: its value and of which row it is, and the value of the reference."""

    criterion: Criterion
    grade: Grade
    value: float | None = None
    of: str = ""
    reference: float | None = None


CRITERIA = (
    Criterion(
        title="one body in one plane: outline Dice",
        kinds=("outline",),
        good=(0.97, inf),
        limited=(0.94, inf),
        reference="real",
    ),
    Criterion(
        title="one anatomy in one plane: share of real",
        kinds=("anatomy, one plane",),
        good=(0.7, inf),
        limited=(0.4, inf),
    ),
    Criterion(
        title="one anatomy in two projections: share of real",
        kinds=("anatomy, projections",),
        good=(0.5, inf),
        limited=(0.25, inf),
    ),
    Criterion(
        title="realism: Fréchet distance, times the autoencoder's",
        kinds=("frechet",),
        good=(-inf, 5.0),
        limited=(-inf, 10.0),
        reference="reconstructed",
        relative=True,
    ),
    Criterion(
        title="variety: coverage of real images",
        kinds=("coverage",),
        good=(0.6, inf),
        limited=(0.3, inf),
        reference="reconstructed",
    ),
    Criterion(
        title="side and grade of the prompt: AUROC relative to reconstruction",
        kinds=("agreement by detail",),
        good=(0.7, 1.15),
        limited=(0.5, 1.3),
    ),
    Criterion(
        title="brightness and soft tissue: spread beside real",
        kinds=("spread of brightness", "spread of soft tissue, HU"),
        good=(0.5, 1.5),
        limited=(0.33, 2.0),
    ),
    Criterion(
        title="reports: known sentences",
        kinds=("known sentences",),
        good=(0.9, inf),
        limited=(0.75, inf),
        reference="real",
    ),
    Criterion(
        title="reports: contradictions",
        kinds=("contradictions",),
        good=(-inf, 0.05),
        limited=(-inf, 0.15),
        reference="real",
    ),
    Criterion(
        title="reports from an image: findings, F1 beside a classifier's",
        kinds=("findings",),
        good=(0.6, inf),
        limited=(0.4, inf),
        reference="classifier",
        relative=True,
    ),
)


def verdicts(table: Sequence[MetricRow]) -> list[Verdict]:
    """Return a verdict for every criterion; none where the table answers no criterion."""
    rows = [(*row.key.split("/", 2), row.value) for row in table if row.key.count("/") == 2]
    by_kind: dict[str, dict[tuple[str, str], float]] = {}
    for kind, way, of, value in rows:
        if value == value:  # a metric without a value answers nothing
            by_kind.setdefault(str(kind), {})[str(way), str(of)] = float(value)
    judged = [_verdict(criterion, by_kind) for criterion in CRITERIA]
    return judged if any(verdict.value is not None for verdict in judged) else []


def head_text(table: Sequence[MetricRow]) -> str:
    """Return the verdicts in aligned columns; empty where there is none."""
    rows = head_cells(table)
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    lines = (
        f"{grade:<{widths[0]}}  {title:<{widths[1]}}  {value:>{widths[2]}}  {rest}"
        for grade, title, value, rest in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def head_cells(table: Sequence[MetricRow]) -> list[tuple[str, str, str, str]]:
    """Return grade, question, value, and what it is of and compared with, for every verdict."""
    return [
        (
            verdict.grade,
            verdict.criterion.title,
            "" if verdict.value is None else f"{verdict.value:.3f}",
            "; ".join(_remarks(verdict)),
        )
        for verdict in verdicts(table)
    ]


def _remarks(verdict: Verdict) -> Iterable[str]:
    criterion = verdict.criterion
    yield criterion.threshold
    if verdict.of:
        yield f"worst: {verdict.of}"
    if verdict.reference is not None:
        yield f"{criterion.reference} {verdict.reference:.3f}"


def _verdict(criterion: Criterion, by_kind: Mapping[str, Mapping[tuple[str, str], float]]) -> Verdict:
    answers = [
        (_compared(criterion, value, by_kind[kind].get((criterion.reference, of))), of, way, kind)
        for kind in criterion.kinds
        for (way, of), value in by_kind.get(kind, {}).items()
        if way not in _REFERENCES
    ]
    known = [(value, of, way, kind) for value, of, way, kind in answers if value is not None]
    if not known:
        return Verdict(criterion=criterion, grade="not measured")
    value, of, way, kind = max(known, key=lambda each: _shortfall(each[0], criterion.good))
    grade: Grade = (
        "good" if _within(value, criterion.good) else "limited" if _within(value, criterion.limited) else "poor"
    )
    reference = by_kind[kind].get((criterion.reference, of))
    return Verdict(criterion=criterion, grade=grade, value=value, of=f"{of}, {way}", reference=reference)


def _compared(criterion: Criterion, value: float, reference: float | None) -> float | None:
    """Return the value, divided by that of the reference where it is relative; ``None`` without one."""
    if not criterion.relative:
        return value
    return value / reference if reference else None


def _within(value: float, span: tuple[float, float]) -> bool:
    return span[0] <= value <= span[1]


def _shortfall(value: float, span: tuple[float, float]) -> float:
    """Return how far a value lies outside a range; negative inside."""
    return max(span[0] - value, value - span[1])
