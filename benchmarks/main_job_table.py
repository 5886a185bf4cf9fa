"""``python benchmarks/main_job_table.py``: the tables of `main_job` and `main_job_long` side by side, as Markdown.

They stand in docs/explanation/results.md; a test holds that page to the files in ``benchmarks/results``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

# Headings of the page, and words of the rows below them.
GROUPS = {
    "One body: outlines and anatomy": (": outline Dice", ": shared anatomy", ": measurements read"),
    "Fidelity and variety": (": Fréchet distance", ": KID", ": precision", ": recall", ": density", ": coverage"),
    "Brightness": (": brightness", ": soft tissue", ": 99.5 percentile"),
    "What outputs depend on": (": response to",),
    "Reconstruction": (" autoencoder, ",),
    "Retrieval in the shared space": (" retrieval, R@",),
    "Agreement of images with the report that prompts them": ("AUROC", "label-based upper bound"),
    "Findings in generated reports": (": report findings, ", "texts that mention"),
    "Reports as language": (": known sentences", ": contradictions", ": repeated words"),
    "Coherence of joint generation": (": cosine, ", ": finding disagreement rate, "),
    "Translation": (" from a given ",),
    "Coupling: relative MSE reduction by a partner at the same noise level": (" ← ",),
}
TRAINING = "While training"
_COMMA = re.compile(r", (?![^\[]*\])")  # none inside an interval

Row = dict[str, Any]


def rows_of(case: str) -> dict[tuple[str, str], Row]:
    """Return the rows of a run's table by phase and metric, in the order of the phases; none before it was run."""
    path = RESULTS / f"{case}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return {(row["phase"], row["what"]): row for row in rows if "phase" in row}


def group_of(phase: str, what: str) -> str:
    """Return the heading that a row belongs under."""
    if phase != "measure":
        return TRAINING
    headings = [heading for heading, signs in GROUPS.items() if any(sign in what for sign in signs)]
    if len(headings) != 1:
        raise ValueError(f"{what}: fits {headings or 'no group'}; correct GROUPS")
    return headings[0]


def markdown() -> str:
    """Return a table per group: metric, the usual job, the extended one where it was run, and the reference."""
    short, long = rows_of("main_job"), rows_of("main_job_long")
    return "\n".join(line for heading in (*GROUPS, TRAINING) for line in _table(heading, short, long)) + "\n"


def _table(heading: str, short: dict[tuple[str, str], Row], long: dict[tuple[str, str], Row]) -> Iterator[str]:
    keys = [key for key in dict.fromkeys([*short, *long]) if group_of(*key) == heading]
    runs = {"usual": short, "`--extended`": long} if long else {"usual": short}
    yield from (
        f"### {heading}",
        "",
        f"| held-out patients | {' | '.join(runs)} | reference |",
        "| --- " * (len(runs) + 2) + "|",
    )
    for key in keys:
        values = " | ".join(_value(run.get(key)) for run in runs.values())
        yield f"| {key[1]} | {values} | {_reference([run[key]['reference'] for run in runs.values() if key in run])} |"
    yield ""


def _reference(texts: list[str]) -> str:
    """Return the reference of a row; where the runs differ, a slash parts them, in the order of the columns."""
    pieces = [_COMMA.split(text) for text in texts]
    if len({len(parts) for parts in pieces}) > 1:
        return " / ".join(text or "-" for text in texts)
    return ", ".join(" / ".join(dict.fromkeys(same)) for same in zip(*pieces, strict=True))


def _value(row: Row | None) -> str:
    if row is None:
        return "-"
    numbers = [row["value"], *(row[bound] for bound in ("low", "high") if row[bound] is not None)]
    largest = max(map(abs, numbers))
    digits = 1 if largest >= 10 else 3 if largest >= 0.05 else 4
    value, *bounds = (_number(number, digits) for number in numbers)
    return f"{value} [{', '.join(bounds)}]" if bounds else value


def _number(value: float, digits: int) -> str:
    """Without a minus in front of a zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


if __name__ == "__main__":
    print(markdown(), end="")
