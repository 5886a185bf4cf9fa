"""Where can a finding be seen at all? AUROC of a small CNN per modality, finding and grade, on a phantom cohort.

    python benchmarks/cases/phantom_visibility.py COHORT [--modalities xray_frontal,ct,...] [--epochs 16] [--folds 3]

COHORT is a folder of ``python -m core.prepare phantom``. Every patient is scored by a network that did not see them
(cross-validation over all patients of the cohort). A grade is measured against all patients without the finding; the
interval is the 95 % bootstrap interval over patients. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image

from benchmarks.cases.small_cnn import fit, scores, standardised

MODALITIES = ("xray_frontal", "xray_lateral", "ct", "mri_t1", "mri_t2", "mri_pd")
GRADES = ("mild", "moderate", "severe")


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Share of pairs in which the positive one scores higher, ties halved (Mann and Whitney)."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(negative)))


def interval(
    positive: np.ndarray, negative: np.ndarray, rng: np.random.Generator, num: int = 500
) -> tuple[float, float]:
    """95 % percentile bootstrap interval over patients."""
    drawn = [auroc(rng.choice(positive, len(positive)), rng.choice(negative, len(negative))) for _ in range(num)]
    return float(np.percentile(drawn, 2.5)), float(np.percentile(drawn, 97.5))


def load(root: Path, modality: str, rows: list[dict[str, str]]) -> np.ndarray:
    """Pictures ``num 64 64`` as stored; CT between -1000 and 1000 HU."""
    pictures = []
    for row in rows:
        path = root / row[modality]
        if path.suffix == ".png":
            with Image.open(path) as image:
                pictures.append(np.asarray(image, dtype=np.float32))
        else:
            plane = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)[..., 0]  # type: ignore[attr-defined]
            pictures.append(np.clip(plane, -1000, 1000) if modality == "ct" else plane)
    return np.stack(pictures)


def cross_scored(pictures: torch.Tensor, labels: np.ndarray, folds: int, epochs: int, seed: int) -> np.ndarray:
    """Out-of-fold scores ``num finding``."""
    fold = np.random.default_rng(seed).permutation(len(pictures)) % folds
    found = np.zeros(labels.shape)
    for number in range(folds):
        mine = torch.from_numpy(fold == number)
        model = fit(pictures[~mine], torch.from_numpy(labels[fold != number].astype(np.float32)), epochs, seed + number)
        part = scores(model, pictures[mine])
        # Networks of different folds need not share a scale: ranks within the fold do.
        found[fold == number] = part.argsort(0).argsort(0) / len(part)
    return found


def table(scored: np.ndarray, labels: np.ndarray, grades: np.ndarray, names: list[str]) -> list[str]:
    """One row per finding: all, mild, moderate, severe, each with its interval and number of patients."""
    rng, rows = np.random.default_rng(0), []
    for column, name in enumerate(names):
        negative = scored[labels[:, column] == 0, column]
        cells = []
        for grade in (None, *GRADES):
            chosen = labels[:, column] == 1 if grade is None else grades[:, column] == grade
            positive = scored[chosen, column]
            low, high = interval(positive, negative, rng)
            cells.append(f"{auroc(positive, negative):.2f} ({low:.2f} to {high:.2f}, {len(positive)})")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Train, score, print."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("cohort", type=Path)
    flags.add_argument("--modalities", default=",".join(MODALITIES))
    flags.add_argument("--epochs", type=int, default=16)
    flags.add_argument("--folds", type=int, default=3)
    flags.add_argument("--seed", type=int, default=0)
    options = flags.parse_args()
    with (options.cohort / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    about = [json.loads((options.cohort / row["ct"]).with_name("patient.json").read_text()) for row in rows]
    names = [name for name in about[0]["labels"] if name != "no_finding"]
    labels = np.array([[patient["labels"][name] for name in names] for patient in about])
    told = [{finding["name"]: finding["grade"] for finding in patient["findings"]} for patient in about]
    grades = np.array([[patient.get(name, "") for name in names] for patient in told])
    print(f"{len(rows)} patients, cohort seed {about[0]['seed']}, {options.folds} folds, {options.epochs} epochs")
    for modality in options.modalities.split(","):
        start = time.monotonic()
        pictures = standardised(load(options.cohort, modality, rows))
        scored = cross_scored(pictures, labels, options.folds, options.epochs, options.seed)
        print(f"\n**{modality}** ({time.monotonic() - start:.0f} s)\n\n| finding | all | mild | moderate | severe |")
        print("| --- | --- | --- | --- | --- |")
        print("\n".join(table(scored, labels, grades, names)), flush=True)


if __name__ == "__main__":
    main()
