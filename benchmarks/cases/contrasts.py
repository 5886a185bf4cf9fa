"""Three contrasts of one MRI slice: T2 from T1 and PD beside floors, and whether all three are of one body.

    python benchmarks/run.py contrasts

Trains the flow ``mri_t1+mri_pd-mri_t2`` at ``tiny``. Floors need no model: the mean T2 image of the training patients,
the T2 image of the training patient whose T1 and PD are nearest, and the mean T2 value at each pair of T1 and PD
values, which is what registered images allow voxel by voxel.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases.agreement_by_grade import test_set_of
from core.evaluate.images.outline import outline_rows
from core.evaluate.reconstruction import reconstruction_errors
from core.evaluate.test_set import TestSet, joined

FLOW, RUN = "mri_t1+mri_pd-mri_t2", Path("runs/benchmark-contrasts")
GIVEN, OUTPUT = ("mri_t1", "mri_pd"), "mri_t2"
STUDIES, SAMPLES, BINS = 200, 8, 48


def measure() -> list[dict[str, Any]]:
    """A row for the training, one per way to a T2 image, and the outline rows of the three contrasts."""
    begun = time.perf_counter()
    only = 'training.measure.only=["reconstruction", "sample sheets"]'
    command = [sys.executable, "-m", "core.train", "--flow", FLOW, "--run", str(RUN), "--set", only]
    subprocess.run(command, check=True)
    trained = {"what": "train", "seconds": round(time.perf_counter() - begun, 1)}
    test_set = test_set_of(RUN)
    test_set.settings = test_set.settings.model_copy(update={"samples": STUDIES})
    return [trained, *translations(test_set), *outlines(test_set)]


def translations(test_set: TestSet) -> list[dict[str, Any]]:
    """PSNR and SSIM of T2 images on the test studies, by way."""
    indices = test_set.comparable_indices(*GIVEN, OUTPUT)
    real = test_set.data(OUTPUT, indices)
    samples = torch.stack(
        [
            joined(test_set.generated([OUTPUT], indices, given=GIVEN, draw=draw, title=f"sample {draw}")[OUTPUT])
            for draw in range(SAMPLES)
        ]
    )
    ways = {"one sample": samples[0], f"mean of {SAMPLES} samples": samples.mean(0)}
    ways |= {f"floor: {name}": images for name, images in floors(test_set, indices).items()}
    ways["autoencoder"] = joined(test_set.reconstructed(OUTPUT, indices))
    rows = []
    for way, images in ways.items():
        errors = reconstruction_errors(real, images)
        means = {name: round(float(errors[name].mean()), 3) for name in ("psnr_db", "ssim")}
        rows.append({"what": f"{OUTPUT} from {' and '.join(GIVEN)}: {way}", **means, "studies": len(indices)})
    return rows


def floors(test_set: TestSet, indices: list[int]) -> Mapping[str, Tensor]:
    """T2 images of the test studies that no model has made."""
    whole = test_set.cohort.whole
    training = whole.indices_with(*GIVEN, OUTPUT)
    known = torch.cat([test_set.data(name, training, whole) for name in GIVEN], 1)
    given = torch.cat([test_set.data(name, indices) for name in GIVEN], 1)
    target = test_set.data(OUTPUT, training, whole)
    nearest = torch.cdist(given.flatten(1), known.flatten(1)).argmin(1)
    return {
        "mean": target.mean(0, keepdim=True).expand(len(given), -1, -1, -1),
        "nearest patient": target[nearest],
        "intensity map": intensity_map(known, target, given),
    }


def intensity_map(known: Tensor, target: Tensor, given: Tensor) -> Tensor:
    """The mean target value at each pair of values, over ``BINS`` bins of each; the whole mean where none is known."""

    def cells(images: Tensor) -> Tensor:
        first, second = ((images + 1) / 2 * BINS).long().clamp(0, BINS - 1).unbind(1)
        return first * BINS + second

    where, values = cells(known).flatten(), target[:, 0].flatten()
    counts = torch.zeros(BINS**2).index_add_(0, where, torch.ones_like(values))
    sums = torch.zeros(BINS**2).index_add_(0, where, values)
    means = torch.where(counts > 0, sums / counts.clamp(min=1), values.mean())
    return means[cells(given)][:, None]


def outlines(test_set: TestSet) -> list[dict[str, Any]]:
    """The outline Dice of the contrasts among themselves."""
    return [
        {"what": each.what, "value": round(each.value, 4), "low": each.low, "high": each.high}
        for each in outline_rows(test_set)
    ]
