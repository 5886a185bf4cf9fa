"""The main job with ``--extended``: see `main_job`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.cases.main_job import measured


def measure() -> list[dict[str, Any]]:
    """Return rows: stages with their seconds, rows of the table, and the whole."""
    return measured(Path("runs/benchmark-main-job-long"), "--extended")
