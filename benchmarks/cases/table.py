"""2,000 rows of a table: studies per minute, peak memory, and the share of the start-up.

    python benchmarks/run.py table

Needs the finished run of `main_job`. Each row has a report as prompt; X-rays, CT and MRI are made. The peer is one
process per request, as before there were tables: its time is that of `core.generate` for one study, cold.
"""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUN = Path("runs/benchmark-main-job")
ROWS, COLD = 2000, 3
OUTPUTS = "xray_frontal,xray_lateral,ct,mri"
SIDES, GRADES = ("left", "right"), ("Small", "Moderate", "Large")


def measure() -> list[dict[str, Any]]:
    """Return rows: the whole table, a single process for the start-up, and a process per request."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        whole_s = _seconds("--table", str(_table(home / "rows.csv", ROWS)), "--out", str(home / "studies"))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        few_s = _seconds("--table", str(_table(home / "few.csv", 1)), "--out", str(home / "few"), "--workers", "1")
        cold = [
            _seconds("--prompt", f"text={_prompt(n)}", "--num", "1", "--out", str(home / f"c{n}")) for n in range(COLD)
        ]
    per_minute, alone = ROWS / whole_s * 60, 60 / (sum(cold) / COLD)
    return [
        {"what": f"table of {ROWS} rows", "seconds": round(whole_s, 1), "studies_per_minute": round(per_minute, 1)},
        {"what": "peak memory of the largest process, GiB", "value": round(peak, 2)},
        {
            "what": "start-up, share of the whole (a table of one row, and its study)",
            "value": round(few_s / whole_s, 4),
        },
        {
            "what": "a process for each request",
            "studies_per_minute": round(alone, 1),
            "ratio": round(per_minute / alone, 1),
        },
    ]


def _table(path: Path, rows: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("study_id", "prompt.text"))
        writer.writerows((f"p{number:05d}", _prompt(number)) for number in range(rows))
    return path


def _prompt(number: int) -> str:
    return f"{GRADES[number % 3]} {SIDES[number % 2]} pleural effusion."


def _seconds(*arguments: str) -> float:
    command = [sys.executable, "-m", "core.generate", "--run", str(RUN), "--output", OUTPUTS, *arguments]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun
