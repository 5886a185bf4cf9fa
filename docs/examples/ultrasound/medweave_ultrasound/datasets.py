"""The BUSI data set: a folder with ``manifest.csv`` and ``images/``. Reads the table, never a pixel."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError

from medweave_ultrasound.modality import NAME

CLASSES = ("benign", "malignant", "normal")
COLUMNS = ("study_id", "patient_id", "file", "labels")


def scan(root: Path) -> Iterator[Record]:
    """One study per row. BUSI publishes no patients, so each image counts as one.

    `UserError` that names file and row: no manifest, a missing column, an unknown class.
    """
    manifest = Path(root) / "manifest.csv"
    if not manifest.is_file():
        raise UserError(f"{manifest}: no such file; set the root of data set 'busi' to the folder that holds it")
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise UserError(
                f"{manifest}: no column {', '.join(missing)}; its columns must include {', '.join(COLUMNS)}"
            )
        for number, row in enumerate(rows, start=2):
            if row["labels"] not in CLASSES:
                raise UserError(f"{manifest}, line {number}: label '{row['labels']}' is none of {', '.join(CLASSES)}")
            yield _record(Path(root), row)


def _record(root: Path, row: dict[str, str]) -> Record:
    return Record(
        patient=row["patient_id"] or row["study_id"],
        study=row["study_id"],
        files={NAME: (root / row["file"],)},
        labels={name: int(name == row["labels"]) for name in CLASSES},
    )


BUSI = DatasetAdapter(
    name="busi",
    title="BUSI breast ultrasound",
    modalities=(NAME,),
    licence="none stated beside the images; the article is CC BY 4.0; cite it",
    citation="Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28 (2020) 104863",
    scan=scan,
)
