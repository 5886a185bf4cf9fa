"""The main job of the README, whole: wall time by stage, peak memory, the table that it ends with, a cold generation.

The run folder stays in ``runs/`` and an interrupted job resumes there; then ``resumed`` is true and the seconds are
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
    """Return rows: stages with their seconds, rows of the table, and the whole."""
    return measured(Path("runs/benchmark-main-job"))


def measured(run: Path, *flags: str) -> list[dict[str, Any]]:
    """Train in ``run`` and generate four studies in a fresh process."""
    whole, ended = trained(run, *flags)
    cold = {"what": "generate 4 studies, cold", "seconds": round(_generated(run), 1)}
    return [whole, cold, *stages(ended), *_table(run)]


def trained(run: Path, *flags: str) -> tuple[dict[str, Any], dict[str, float]]:
    """The row of the whole training, and when each stage was seen finished."""
    resumed, begun, ticks = run.exists(), time.perf_counter(), _ticks()
    ended = _trained([sys.executable, "-m", "core.train", "--flow", FLOW, "--run", str(run), *flags], run)
    train_s = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = {
        "what": "train",
        "seconds": round(train_s, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "stolen": _stolen(ticks),
        "peak_gib": round(used.ru_maxrss / 2**20, 2),  # of the largest process
        "resumed": resumed,
    }
    return whole, ended


def _ticks() -> list[int]:
    """What the processors did since the machine was started; empty where the system does not say."""
    try:
        return [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return []


def _stolen(before: list[int]) -> float | str:
    """The share of the time since ``before`` in which a host of virtual machines served others than this one."""
    passed = [now - then for now, then in zip(_ticks(), before, strict=False)]
    return round(passed[7] / sum(passed), 3) if passed and sum(passed) else ""


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


def stages(ended: dict[str, float]) -> list[dict[str, Any]]:
    """Rows: the seconds that each stage took."""
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
