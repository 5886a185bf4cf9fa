"""A DICOM series of CT from its folder to the canonical grid: CPU seconds, in turn with MONAI's pipeline.

Both read the same 104 slices in one process, one thread each, by turns; medians of the pairs, after one pair of each to
import libraries. Ours: `core.io` reads the series with all its checks (geometry, units, padding, gaps), then the
preprocessor of ``ct`` at ``tiny3d`` clips, scales, turns and averages onto 32 x 32 x 32. MONAI: ``LoadImage`` with its
default reader of a DICOM folder (pydicom, unless itk is installed), ``Orientation`` to the same axes, ``Spacing`` to
the same spacing (linear interpolation, not averages: the cheaper of the two) and ``ScaleIntensityRange`` with clipping.
``ratio``: seconds of ours over those of MONAI in the same pair; below 1 ours is faster.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SLICES, SIDES, PAIRS = 104, (256, 512), 7
FIELD_MM, STEP_MM = 384.0, 2.0
PRESET, MODALITY = "tiny3d", "ct"
WINDOW_HU = (-1000.0, 1000.0)


def measure() -> list[dict[str, Any]]:
    """Return a row per size of the slices and step: seconds of both, and the ratio."""
    import torch

    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other libraries
        for side in SIDES:
            path = Path(folder) / str(side)
            write_series(path, side)
            rows += compared(path, side)
    return rows


def compared(path: Path, side: int) -> list[dict[str, Any]]:
    """Return the rows of one series: reading alone, then reading and preprocessing."""
    read, apply = ours()
    load, transform = monai_pipeline(spacing_mm=apply(read(path)).geometry.spacing_mm)
    shapes = tuple(apply(read(path)).data.shape[1:]), tuple(transform(load(path)).shape[1:])
    steps = {
        "read": (lambda: read(path), lambda: load(path)),
        "read and preprocess": (lambda: apply(read(path)), lambda: transform(load(path))),
    }
    rows = []
    for step, (own, peer) in steps.items():
        pairs = [(seconds(own), seconds(peer)) for _ in range(PAIRS)]
        row = {"slices": f"{SLICES} x {side} x {side}", "step": step}
        row["medweave_s"], row["monai_s"] = (round(statistics.median(times), 3) for times in zip(*pairs, strict=True))
        ratios = sorted(first / second for first, second in pairs)
        row |= {"ratio": round(statistics.median(ratios), 2), "ratio_min": round(ratios[0], 2)}
        row |= {"ratio_max": round(ratios[-1], 2), "medweave_shape": shapes[0], "monai_shape": shapes[1]}
        rows.append(row)
    return rows


def ours() -> tuple[Callable[[Path], Any], Callable[[Any], Any]]:
    """Return the reader and the preprocessor of the modality."""
    from core.contract.discovery import discover

    parts = discover().modalities[MODALITY].parts(PRESET)
    return parts.reader.build().read, parts.preprocess.build().apply


def monai_pipeline(spacing_mm: tuple[float, ...]) -> tuple[Callable[[Path], Any], Callable[[Any], Any]]:
    """Return MONAI's loader and the transforms after it, for axes (slice, row, column) as ours."""
    from monai.transforms import Compose, LoadImage, Orientation, ScaleIntensityRange, Spacing

    load = LoadImage(image_only=True, ensure_channel_first=True)
    scale = ScaleIntensityRange(*WINDOW_HU, -1.0, 1.0, clip=True)
    return load, Compose([Orientation(axcodes="SPL"), Spacing(pixdim=spacing_mm), scale])


def seconds(do: Callable[[], Any]) -> float:
    """Return CPU time of one call, all threads of the process."""
    start = time.process_time()
    do()
    return time.process_time() - start


def write_series(path: Path, side: int) -> None:
    """Write a series of CT: a smooth body with noise, as our own writer of series stores it."""
    from core.io import DicomSeriesWriterConfig, Window, centred
    from core.types import Provenance, Sample

    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / side
    body = -1000 + 1100 * np.exp(-8 * ((rows - 0.5) ** 2 + (columns - 0.5) ** 2))
    noise = np.random.default_rng(side).normal(0, 20, (SLICES, side, side))
    data = np.clip(body + noise, -1024, 3000).astype(np.float32)[None]
    geometry = centred(data.shape[1:], (STEP_MM, FIELD_MM / side, FIELD_MM / side), "IPR")
    writer = DicomSeriesWriterConfig(kind="CT", dims=3, units="HU", windows=(Window(centre=40, width=400),)).build()
    sample = Sample(modality=MODALITY, data=data, geometry=geometry, meta={"units": "HU"})
    writer.write(sample, path, Provenance(model="benchmark", recipe="none", seed=side))
