"""Arms of an ablation: short runs that reuse the finished run of `main_job`, several side by side, a process each."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

RUN, FOLDER = Path("runs/benchmark-main-job"), Path("runs/ablations")
SEEDS, AT_ONCE = (0, 1, 2), 2
Columns = Callable[[Path], dict[str, float]]


def arm_rows(arms: Mapping[str, Sequence[str]], columns: Columns) -> list[dict[str, Any]]:
    """A row per arm, of flags of ``core.train``: mean and range of every column over the seeds."""
    jobs = [(arm, seed) for seed in SEEDS for arm in arms]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        took = pool.map(lambda job: trained(job[0], job[1], arms[job[0]]), jobs)
        minutes = dict(zip(jobs, took, strict=True))
    return [
        {"arm": arm, **_over_seeds(arm, columns), "minutes": max(minutes[arm, seed] for seed in SEEDS)} for arm in arms
    ]


def trained(arm: str, seed: int, flags: Sequence[str]) -> float:
    """Train an arm in a folder of its own, which resumes there; minutes that it took."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "core.train", "--run", str(folder(arm, seed)), "--reuse", str(RUN)]
    command += ["--seed", str(seed), "--processes", "1", *flags]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if ended.returncode:
        sys.exit(f"{arm}, seed {seed}: exit code {ended.returncode}: {ended.stderr.strip().splitlines()[-1]}")
    return round((time.perf_counter() - begun) / 60, 1)


def folder(arm: str, seed: int) -> Path:
    """The run folder of an arm."""
    return FOLDER / f"{''.join(letter if letter.isalnum() else '-' for letter in arm)}-{seed}"


def table_columns(wanted: Mapping[str, tuple[str, ...]], run: Path) -> dict[str, float]:
    """For every column the mean of the table rows of a run that begin with one of its texts."""
    stages = json.loads((run / "progress.json").read_text(encoding="utf-8"))["stages"]
    lines = [line for stage in stages.values() for line in stage["lines"] if "gained" not in line["what"]]
    values = {
        name: [line["value"] for line in lines if line["what"].startswith(starts)] for name, starts in wanted.items()
    }
    return {name: mean(each) for name, each in values.items() if each}


def _over_seeds(arm: str, columns: Columns) -> dict[str, str]:
    by_seed = [columns(folder(arm, seed)) for seed in SEEDS]
    cells = {}
    for name in dict.fromkeys(name for each in by_seed for name in each):
        values = [each[name] for each in by_seed if name in each]
        cells[name] = f"{mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"
    return cells
