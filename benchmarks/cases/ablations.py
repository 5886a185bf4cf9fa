"""What each choice of `medweave` is worth: short runs from shared autoencoders and alignment, three seeds an arm.

    python benchmarks/run.py ablations

Needs the finished run of `main_job`, whose autoencoders and alignment every arm reuses. Two arms train side by side, a
process each. Every arm has the same steps, where the arm does not say otherwise; figures are of test studies, mean and
range over the seeds. Finished arms stay in ``runs/ablations``, so that an interrupted case goes on there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.cases.main_job import FLOW

RUN, FOLDER = Path("runs/benchmark-main-job"), Path("runs/ablations")
SEEDS, AT_ONCE = (0, 1, 2), 2
COMMON = (
    *("training.diffuse.steps=40", "training.diffuse.steps_tokens=150", "training.joint.steps=300"),
    'training.measure.only=["outline", "anatomy", "agreement", "translation"]',
)
ARMS: dict[str, tuple[str, ...]] = {
    "medweave": (),
    "target: noise": ("diffuse.objective=epsilon",),
    "target: clean latent": ("diffuse.objective=clean",),
    "context by attention": ("guide.aligned=none", "guide.summary=false", "guide.adaptation=true"),
    "context aligned and by attention": ("guide.aligned=beside", "guide.adaptation=true"),
    "aligned, no summary": ("guide.summary=false",),
    "trained: contexts only": ("guide.trains=sublayers", "training.diffuse.steps=240", "training.joint.steps=150"),
    "pairs in turn": ("guide.studies=pairs", "training.joint.steps=50"),  # of each of six pairs
    "one level for a study": ("guide.levels=equal",),
    "no guidance by partners": ("sampler.context_scale=1.0",),
    "medm2g's guidance": (
        *("guide.aligned=none", "guide.summary=false", "guide.adaptation=true", "guide.contrast=true"),
        *(
            "guide.studies=pairs",
            "guide.trains=sublayers",
            "diffuse.objective=epsilon",
            "diffuse.schedule=scaled_linear",
        ),
        *("training.diffuse.steps=240", "training.joint.steps=25", "sampler.context_scale=1.0"),
    ),
}
# Column and the beginning of the rows whose mean it is.
COLUMNS = {
    "dice": ("ct and mri: outline Dice, generated, no prompt", "ct and mri: outline Dice, generated, prompted"),
    "anatomy_plane": ("ct and mri: shared anatomy, share of real, generated",),
    "anatomy_views": ("xray_frontal and xray_lateral: shared anatomy, share of real, generated",),
    "mri_from_ct_db": ("mri from a given ct: PSNR dB",),
    "ct_from_mri_db": ("ct from a given mri: PSNR dB",),
    "agreement_frontal": ("xray_frontal: agreement with text, AUROC relative",),
    "agreement_ct": ("ct: agreement with text, AUROC relative",),
}


def measure() -> list[dict[str, Any]]:
    """A row per arm."""
    jobs = [(arm, seed) for seed in SEEDS for arm in ARMS]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seconds = dict(zip(jobs, pool.map(lambda job: trained(*job), jobs), strict=True))
    return [row(arm, [seconds[arm, seed] for seed in SEEDS]) for arm in ARMS]


def trained(arm: str, seed: int) -> float:
    """Train an arm in a folder of its own; seconds that it took."""
    run, begun = folder(arm, seed), time.perf_counter()
    sets = [f"--set={change}" for change in (*COMMON, *ARMS[arm])]
    command = [sys.executable, "-m", "core.train", "--flow", FLOW, "--run", str(run), "--reuse", str(RUN)]
    command += ["--seed", str(seed), "--processes", "1", *sets]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if ended.returncode:
        sys.exit(f"{arm}, seed {seed}: exit code {ended.returncode}: {ended.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - begun


def folder(arm: str, seed: int) -> Path:
    """The run folder of an arm."""
    return FOLDER / f"{arm.replace(' ', '-').replace(':', '').replace(',', '')}-{seed}"


def row(arm: str, seconds: list[float]) -> dict[str, Any]:
    """Mean and range of every column over the seeds."""
    figures = [columns(folder(arm, seed)) for seed in SEEDS]
    cells = {}
    for name in COLUMNS:
        values = [each[name] for each in figures if name in each]
        cells[name] = f"{mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]" if values else ""
    return {"arm": arm, **cells, "minutes": round(max(seconds) / 60, 1)}


def columns(run: Path) -> dict[str, float]:
    """The columns of one run."""
    stages = json.loads((run / "progress.json").read_text(encoding="utf-8"))["stages"]
    lines = [line for stage in stages.values() for line in stage["lines"]]
    values_of = {}
    for name, starts in COLUMNS.items():
        values = [line["value"] for line in lines if line["what"].startswith(starts) and "gained" not in line["what"]]
        if values:
            values_of[name] = mean(values)
    return values_of
