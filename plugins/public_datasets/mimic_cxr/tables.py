"""Read the tables of MIMIC-CXR-JPG: images, the official split and CheXpert's findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from plugins.public_datasets.csv_tables import Row, read_rows, row_error
from plugins.public_datasets.skipped_files import SkippedFiles

Split = Literal["train", "validation", "test"]
SPLITS: Mapping[str, Split] = {"train": "train", "validate": "validation", "test": "test"}
# Oblique, cross-table and decubitus views are neither: they are skipped and counted.
VIEWS = {"PA": "xray_frontal", "AP": "xray_frontal", "LATERAL": "xray_lateral", "LL": "xray_lateral"}
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture"),
    *("Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia"),
    *("Pneumothorax", "Support Devices"),
)
_MARKS = {"1": b"+", "0": b"-", "-1": b"?", "": b"?"}  # an uncertain finding counts as unknown, like an unmentioned one


def read_images(path: Path, skipped: SkippedFiles) -> Iterator[tuple[tuple[str, str], Row]]:
    """Yield patient ``p10000032`` and study ``s50414267`` with every row of the metadata.

    `UserError`: an identifier is no number, or the rows of a study do not follow each other.
    """
    seen, last = set[int](), ("", "")
    for line, row in read_rows(path, ("dicom_id", "subject_id", "study_id", "ViewPosition")):
        _require_identifiers(row, path, line)
        key = (f"p{row['subject_id']}", f"s{row['study_id']}")
        if key != last:
            if int(row["study_id"]) in seen:
                raise row_error(path, line, f"study {key[1]} comes back", "sort the table by subject_id and study_id")
            seen.add(int(row["study_id"]))
            last = key
        if row["ViewPosition"] not in VIEWS:
            skipped.add(f"images of the view '{row['ViewPosition'] or 'not stated'}'", row["dicom_id"])
        yield key, row


def read_splits(path: Path) -> dict[str, Split]:
    """Return the split of every patient; `UserError` for an unknown split, and for a patient in two."""
    splits: dict[str, Split] = {}
    for line, row in read_rows(path, ("subject_id", "split")):
        split = SPLITS.get(row["split"])
        if split is None:
            raise row_error(path, line, f"split '{row['split']}' (known: {', '.join(SPLITS)})")
        if splits.setdefault(f"p{row['subject_id']}", split) != split:
            raise row_error(path, line, f"patient p{row['subject_id']} is in two splits")
    return splits


class ChexpertLabels:
    """Hold CheXpert's findings by study, a byte each, because 227,827 studies are in memory at once."""

    def __init__(self, path: Path | None) -> None:
        self._marks: dict[str, bytes] = {}
        if path is None:
            return
        for line, row in read_rows(path, ("study_id", *FINDINGS)):
            marks = [_MARKS.get(row[name].removesuffix(".0")) for name in FINDINGS]
            for name, mark in zip(FINDINGS, marks, strict=True):
                if mark is None:
                    raise row_error(path, line, f"{name} is '{row[name]}', expected 1.0, 0.0, -1.0 or nothing")
            self._marks[f"s{row['study_id']}"] = b"".join(mark or b"" for mark in marks)

    def labels_of(self, study: str) -> dict[str, int]:
        """Return 1 or 0 for every finding that is present or absent, without the uncertain and the unmentioned ones.

        In the table the former are -1 and the latter are empty.
        """
        marks = self._marks.get(study, b"")
        return {name: int(mark == ord("+")) for name, mark in zip(FINDINGS, marks, strict=False) if mark != ord("?")}


def _require_identifiers(row: Row, path: Path, line: int) -> None:
    for name in ("subject_id", "study_id"):
        if not row[name].isdecimal():
            raise row_error(path, line, f"{name} is '{row[name]}', expected a number")
    if not row["dicom_id"]:
        raise row_error(path, line, "dicom_id is empty")
