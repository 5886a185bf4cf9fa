"""``python benchmarks/main_job_table.py``: the tables of `main_job` and `main_job_long` beside each other, as Markdown.

They stand in docs/explanation/results.md; a test holds that page to the files in ``benchmarks/results``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

# Headings of the page, and what the rows below them are known by: a phase, or words of the row.
GROUPS = {
    "Reconstruction": (" autoencoder, ",),
    "Retrieval in the shared space": (" finds ",),
    "Agreement of images with the report that prompts them": ("AUROC", "agreement", "through the judge"),
    "What generated reports tell": ("findings told", "texts that tell"),
    "Coherence of joint generation": (": cosine, ", ": findings that differ, share, "),
    "Translation": (" from a given ",),
    "Coupling: noise that a partner at the same noise level explains": (" told by ",),
}
TRAINING = "While training"
_COMMA = re.compile(r", (?![^\[]*\])")  # none inside an interval

Row = dict[str, Any]


def rows_of(case: str) -> dict[tuple[str, str], Row]:
    """The lines of a run's table by phase and what they measure, in the order of the phases; none before it was run."""
    path = RESULTS / f"{case}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return {(row["phase"], row["what"]): row for row in rows if "phase" in row}


def group_of(phase: str, what: str) -> str:
    """The heading that a line belongs under."""
    if phase != "measure":
        return TRAINING
    found = [heading for heading, signs in GROUPS.items() if any(sign in what for sign in signs)]
    if len(found) != 1:
        raise ValueError(f"{what}: fits {found or 'no group'}; mend GROUPS")
    return found[0]


def markdown() -> str:
    """A table per group: what, the usual job, the long one where it was run, and what it is to be read beside."""
    short, long = rows_of("main_job"), rows_of("main_job_long")
    return "\n".join(line for heading in (*GROUPS, TRAINING) for line in _table(heading, short, long)) + "\n"


def _table(heading: str, short: dict[tuple[str, str], Row], long: dict[tuple[str, str], Row]) -> Iterator[str]:
    keys = [key for key in dict.fromkeys([*short, *long]) if group_of(*key) == heading]
    runs = {"usual": short, "`--extended`": long} if long else {"usual": short}
    yield from (
        f"### {heading}",
        "",
        f"| held-out patients | {' | '.join(runs)} | beside |",
        "| --- " * (len(runs) + 2) + "|",
    )
    for key in keys:
        values = " | ".join(_value(run.get(key)) for run in runs.values())
        yield f"| {key[1]} | {values} | {_beside([run[key]['beside'] for run in runs.values() if key in run])} |"
    yield ""


def _beside(told: list[str]) -> str:
    """What a row is to be read beside; where the runs differ, a slash parts them, in the order of the columns."""
    pieces = [_COMMA.split(text) for text in told]
    if len({len(one) for one in pieces}) > 1:
        return " / ".join(text or "-" for text in told)
    return ", ".join(" / ".join(dict.fromkeys(same)) for same in zip(*pieces, strict=True))


def _value(row: Row | None) -> str:
    if row is None:
        return "-"
    found = [row["value"], *(row[bound] for bound in ("low", "high") if row[bound] is not None)]
    largest = max(map(abs, found))
    digits = 1 if largest >= 10 else 3 if largest >= 0.05 else 4
    value, *bounds = (_number(number, digits) for number in found)
    return f"{value} [{', '.join(bounds)}]" if bounds else value


def _number(value: float, digits: int) -> str:
    """Without a minus in front of a zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


if __name__ == "__main__":
    print(markdown(), end="")
