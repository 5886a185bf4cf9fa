"""Translation beside a peer: the mean of eight samples of a run, and a MONAI UNet that regresses the same pair.

    python benchmarks/run.py translation

Needs the finished run of `main_job`. The UNet trains on the real pairs of all training studies, for as many CPU seconds
as the run spent on both flows in the phases ``diffuse`` and ``guide``; of a joint round, the two flows' share among
its images. PSNR and SSIM are of the test studies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.unet import UNet
from torch import Tensor

from benchmarks.cases.agreement_by_grade import test_set_of
from core.engine.rng import forked_rng, make_generator
from core.evaluate.reconstruction import reconstruction_errors
from core.evaluate.test_set import TestSet, joined

RUN = Path("runs/benchmark-main-job")
TIMES = Path(__file__).parents[1] / "results" / "main_job.json"
SAMPLES, STUDIES, BATCH, RATE = 8, 200, 32, 2e-3


def measure() -> list[dict[str, Any]]:
    """Return rows: PSNR and SSIM of both directions of every pair of slices or volumes that the run has coupled."""
    test_set = test_set_of(RUN)
    test_set.settings = test_set.settings.model_copy(update={"samples": STUDIES})
    pairs = [pair for pair in test_set.bundle.trained_pairs if set(pair) <= set(test_set.grids)]
    directions = [*pairs, *(pair[::-1] for pair in pairs)]
    return [
        row
        for given, output in directions
        if _same_grid(test_set, given, output)
        for row in rows(test_set, given, output)
    ]


def rows(test_set: TestSet, given: str, output: str) -> Iterator[dict[str, Any]]:
    """Yield a row for one sample, for the mean of eight, for the UNet, and for the autoencoder."""
    indices = test_set.comparable_indices(given, output)
    real, seconds = test_set.data(output, indices), cpu_seconds(given, output, len(test_set.grids))
    samples = torch.stack(
        [
            joined(test_set.generated([output], indices, given=[given], draw=draw, title=f"sample {draw}")[output])
            for draw in range(SAMPLES)
        ]
    )
    ways = {
        "one sample": samples[0],
        f"mean of {SAMPLES} samples": samples.mean(0),
        f"MONAI UNet, {seconds:.0f} CPU s": unet_translation(test_set, given, output, indices, seconds),
        "autoencoder": joined(test_set.reconstructed(output, indices)),
    }
    for way, images in ways.items():
        errors = reconstruction_errors(real, images)
        means = {name: round(float(errors[name].mean()), 3) for name in ("psnr_db", "ssim")}
        yield {"output": output, "given": given, "way": way, **means, "studies": len(indices)}


def unet_translation(test_set: TestSet, given: str, output: str, indices: list[int], seconds: float) -> Tensor:
    """Return the images that a UNet, trained for so many CPU seconds, makes of the given ones of test studies."""
    whole = test_set.cohort.whole
    training = whole.indices_with(given, output)
    source, target = (test_set.data(name, training, whole) for name in (given, output))
    return translated(source, target, test_set.data(given, indices), seconds=seconds, seed=test_set.seed)


def translated(source: Tensor, target: Tensor, others: Tensor, *, seconds: float, seed: int) -> Tensor:
    """Train a UNet to map ``source`` to ``target``, ``sample channel *space`` in [-1, 1], and apply it to ``others``.

    The loss is the mean absolute error, the rate falls to 0 over the ``seconds`` of CPU time.
    """
    generator = make_generator(seed, "benchmark", "translation")
    with forked_rng(seed, "benchmark", "weights"):
        unet = UNet(source.ndim - 2, source.shape[1], target.shape[1], (32, 64, 128, 128), (2, 2, 2), num_res_units=2)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE)
    begun = time.process_time()
    while (share := (time.process_time() - begun) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = RATE * (1 - share)
        rows = torch.randint(0, len(source), (min(BATCH, len(source)),), generator=generator)
        loss = (unet(source[rows]) - target[rows]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return torch.cat([unet.eval()(part) for part in others.split(BATCH)]).clamp(-1, 1)


def cpu_seconds(given: str, output: str, num_images: int) -> float:
    """Return the CPU seconds that the run spent on both flows: its stages' wall seconds on all cores."""
    stages = {row["what"]: row.get("seconds", 0) for row in json.loads(TIMES.read_text())["rows"] if "what" in row}
    denoisers = [stages.get(f"diffuse {name}.denoiser", 0) for name in (given, output)]
    rounds = [
        seconds for what, seconds in stages.items() if what.startswith("guide ") and _names_both(what, given, output)
    ]
    joint = 2 * stages.get("joint all flows", 0) / num_images  # the report costs next to nothing
    return torch.get_num_threads() * (sum(denoisers) + sum(rounds) + joint)


def _names_both(stage: str, given: str, output: str) -> bool:
    return {given, output} <= set(stage.split()[-1].replace("+", "-").split("-"))


def _same_grid(test_set: TestSet, given: str, output: str) -> bool:
    specs = [test_set.run.parts(name).data for name in (given, output)]
    return specs[0].space == specs[1].space and specs[0].kind == specs[1].kind == "grid"
