"""Write and read the manifest: a row per patient, written last, so that its presence means the cohort is complete."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from core.api import Record, UserError
from core.io import atomic_write
from plugins.phantom.anatomy.findings import FINDINGS, NO_FINDING
from plugins.phantom.files import FILES, MASKS, PARAMETERS, PATIENTS, folder_name, mask_column

MANIFEST = "manifest.csv"
REPORTS = "reports.txt"
STRATA = ("sex", "habitus")
_LABELS = (*FINDINGS, NO_FINDING)
_HABITUS_FAT_MM = {"slim": 12.0, "medium": 19.0}  # subcutaneous fat below this; the others are large
Split = Literal["train", "validation", "test"]


def split_of(patient: int) -> Split:
    """Return the split of a patient. Of every twelve nine train, one validates and two test: 900, 100, 200 of 1,200.

    A patient's split does not depend on the size of the cohort.
    """
    remainder = patient % 12
    return "test" if remainder >= 10 else "validation" if remainder == 9 else "train"


def write_manifest(root: Path, num: int) -> None:
    """Write the table from the patients' parameter files."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["patient", "split", *FILES, *map(mask_column, MASKS), *STRATA, *_LABELS])
    for patient in range(num):
        folder = f"{PATIENTS}/{folder_name(patient)}"
        parameters = json.loads((root / folder / PARAMETERS).read_text(encoding="utf-8"))
        labels, anatomy = parameters["labels"], parameters["anatomy"]
        strata = (anatomy["sex"], _habitus(anatomy["fat"]))
        paths = [f"{folder}/{name}" for name in (*FILES.values(), *MASKS.values())]
        rows.writerow([folder_name(patient), split_of(patient), *paths, *strata, *(labels[name] for name in _LABELS)])
    with atomic_write(root / MANIFEST, overwrite=True) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _habitus(fat_mm: float) -> str:
    return next((name for name, most in _HABITUS_FAT_MM.items() if fat_mm < most), "large")


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per patient, then one per report without patient. `UserError`: there is no finished cohort."""
    root = Path(root)
    manifest = root / MANIFEST
    if not manifest.is_file():
        raise UserError(
            f"{manifest}: no such file; make or finish the cohort: python -m core.prepare phantom --root {root}"
        )
    with manifest.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Record(
                patient=f"phantom-{row['patient']}",
                study=f"phantom-{row['patient']}",
                # A mask is a modality too, and the truth that measures compare with.
                files={name: (root / row[name],) for name in (*FILES, *map(mask_column, MASKS))},
                split=row["split"],  # type: ignore[arg-type]
                labels={name: int(row[name]) for name in _LABELS},
                masks={name: root / row[mask_column(name)] for name in MASKS},
                strata={name: row[name] for name in STRATA},
            )
    reports = (root / REPORTS).read_text(encoding="utf-8").splitlines()
    for number, report in enumerate(reports):
        yield Record(patient=f"phantom-report-{number}", study=f"phantom-report-{number}", texts={"text": report})
