"""The main job of the README, whole: wall time by stage, peak memory, the table that it ends with, a cold generation.

The run folder stays in ``runs/`` and a job that was killed goes on there; then ``resumed`` is true and the seconds are
those of the last part.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FLOW = "text-xray,text-ct,ct-mri"
PROMPT = "text=Small left pleural effusion."
OUTPUTS = "xray_frontal,xray_lateral,ct,mri"
POLL_S = 0.5


def measure() -> list[dict[str, Any]]:
    """Rows: stages with their seconds, lines of the table, and the whole."""
    return measured(Path("runs/benchmark-main-job"))


def measured(run: Path, *flags: str) -> list[dict[str, Any]]:
    """Train in ``run`` and generate four studies in a fresh process."""
    resumed, begun = run.exists(), time.perf_counter()
    ended = _trained([sys.executable, "-m", "core.train", "--flow", FLOW, "--run", str(run), *flags], run)
    train_s = time.perf_counter() - begun
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # of the largest process
    whole = {
        "what": "train",
        "seconds": round(train_s, 1),
        "peak_gib": round(peak_gib, 2),
        "resumed": resumed,
    }
    cold = {"what": "generate 4 studies, cold", "seconds": round(_generated(run), 1)}
    return [whole, cold, *_stages(ended), *_table(run)]


def _trained(command: list[str], run: Path) -> dict[str, float]:
    """Seconds since the start at which each stage was seen finished."""
    begun, ended = time.perf_counter(), dict.fromkeys(_finished(run), 0.0)
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            time.sleep(POLL_S)
            for stage in _finished(run):
                ended.setdefault(stage, time.perf_counter() - begun)
    if process.returncode:
        sys.exit(f"training ended with exit code {process.returncode}")
    return ended


def _finished(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / "progress.json").read_text())["stages"]
    except FileNotFoundError:
        return {}


def _stages(ended: dict[str, float]) -> list[dict[str, Any]]:
    times = [0.0, *ended.values()]
    return [
        {"what": stage, "seconds": round(end - start, 1)}
        for (stage, end), start in zip(ended.items(), times, strict=False)
    ]


def _table(run: Path) -> list[dict[str, Any]]:
    return [line for stage in _finished(run).values() for line in stage["lines"]]


def _generated(run: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "core.generate", "--run", str(run), "--prompt", PROMPT]
        begun = time.perf_counter()
        subprocess.run([*command, "--output", OUTPUTS, "--num", "4", "--out", f"{folder}/studies"], check=True)
        return time.perf_counter() - begun
