"""Does the phantom look like radiographs? A classifier of views that saw real ones only is asked.

    python benchmarks/cases/phantom_views.py REAL PHANTOM [--epochs 4] [--seed 0]

REAL is a folder with ``manifest.csv`` (columns ``patient_id``, ``file``, ``view``: frontal or lateral), as
``openi_cxr``; PHANTOM a cohort of ``python -m core.prepare phantom``. Nothing is copied or written.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.cases.small_cnn import fit, scores, standardised

PIXELS = 64


def real_views(root: Path, *, held_out: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pictures ``num 64 64`` and 1 for every lateral one; every fifth patient is held out."""
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    held = set(sorted({row["patient_id"] for row in rows})[::5])
    rows = [row for row in rows if (row["patient_id"] in held) == held_out]
    pictures = [_picture(root / row["file"]) for row in rows]
    return np.stack(pictures), np.array([row["view"] == "lateral" for row in rows])


def phantom_views(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Both views of every patient."""
    paths = [sorted((root / "patients").glob(f"[0-9]*/xray_{view}.png")) for view in ("frontal", "lateral")]
    pictures = [_picture(path) for part in paths for path in part]
    return np.stack(pictures), np.repeat([False, True], [len(part) for part in paths])


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        grey = np.asarray(image, dtype=np.float32)
    shown = Image.fromarray(grey if grey.ndim == 2 else grey.mean(-1))
    return np.asarray(shown.resize((PIXELS, PIXELS), Image.Resampling.BOX))


def main() -> None:
    """Train on dev, print accuracy on held real pictures and on the phantom, per view."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("real", type=Path)
    flags.add_argument("phantom", type=Path)
    flags.add_argument("--epochs", type=int, default=4)
    flags.add_argument("--seed", type=int, default=0)
    options = flags.parse_args()
    pictures, lateral = real_views(options.real, held_out=False)
    model = fit(
        standardised(pictures), torch.from_numpy(lateral[:, None].astype(np.float32)), options.epochs, options.seed
    )
    print(f"trained on {len(pictures)} real pictures, {options.epochs} epochs, seed {options.seed}")
    for name, (images, truth) in (
        ("real, held out", real_views(options.real, held_out=True)),
        ("phantom", phantom_views(options.phantom)),
    ):
        right = (scores(model, standardised(images))[:, 0] > 0) == truth
        print(
            f"{name:15} {len(right):5} pictures   right {right.mean():.4f}   "
            f"frontal {right[~truth].mean():.4f}   lateral {right[truth].mean():.4f}"
        )


if __name__ == "__main__":
    main()
