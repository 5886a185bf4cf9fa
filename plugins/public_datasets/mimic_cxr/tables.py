"""What the tables of MIMIC-CXR-JPG say: images, the official split, CheXpert's findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from plugins.public_datasets.csv_tables import Row, rows, wrong_row
from plugins.public_datasets.skipped_files import Omissions

Split = Literal["train", "validation", "test"]
SPLITS: Mapping[str, Split] = {"train": "train", "validate": "validation", "test": "test"}
# Oblique, cross-table and decubitus views are neither: they are left out and counted.
VIEWS = {"PA": "xray_frontal", "AP": "xray_frontal", "LATERAL": "xray_lateral", "LL": "xray_lateral"}
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture"),
    *("Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia"),
    *("Pneumothorax", "Support Devices"),
)
_MARKS = {"1": b"+", "0": b"-", "-1": b"?", "": b"?"}  # an uncertain finding counts as unknown, like an unmentioned one


def images(path: Path, omitted: Omissions) -> Iterator[tuple[tuple[str, str], Row]]:
    """Patient ``p10000032`` and study ``s50414267`` with every row of the metadata.

    `UserError`: an identifier is no number, or the rows of a study do not stand together.
    """
    seen, last = set[int](), ("", "")
    for line, row in rows(path, ("dicom_id", "subject_id", "study_id", "ViewPosition")):
        _check(row, path, line)
        key = (f"p{row['subject_id']}", f"s{row['study_id']}")
        if key != last:
            if int(row["study_id"]) in seen:
                raise wrong_row(path, line, f"study {key[1]} comes back", "sort the table by subject_id and study_id")
            seen.add(int(row["study_id"]))
            last = key
        if row["ViewPosition"] not in VIEWS:
            omitted.add(f"images of the view '{row['ViewPosition'] or 'not stated'}'", row["dicom_id"])
        yield key, row


def split_of_patients(path: Path) -> dict[str, Split]:
    """Patient to split; `UserError` for an unknown split, and for a patient in two."""
    found: dict[str, Split] = {}
    for line, row in rows(path, ("subject_id", "split")):
        split = SPLITS.get(row["split"])
        if split is None:
            raise wrong_row(path, line, f"split '{row['split']}' (known: {', '.join(SPLITS)})")
        if found.setdefault(f"p{row['subject_id']}", split) != split:
            raise wrong_row(path, line, f"patient p{row['subject_id']} stands in two splits")
    return found


class Findings:
    """CheXpert's findings by study: a byte each, because 227,827 studies are kept at once."""

    def __init__(self, path: Path | None) -> None:
        self._marks: dict[str, bytes] = {}
        for line, row in rows(path, ("study_id", *FINDINGS)) if path else ():
            marks = [_MARKS.get(row[name].removesuffix(".0")) for name in FINDINGS]
            for name, mark in zip(FINDINGS, marks, strict=True):
                if mark is None:
                    raise wrong_row(path, line, f"{name} is '{row[name]}', expected 1.0, 0.0, -1.0 or nothing")
            self._marks[f"s{row['study_id']}"] = b"".join(mark or b"" for mark in marks)

    def of(self, study: str) -> dict[str, int]:
        """Finding to 1 present or 0 absent, without those that are uncertain (-1) or not mentioned (empty)."""
        marks = self._marks.get(study, b"")
        return {name: int(mark == ord("+")) for name, mark in zip(FINDINGS, marks, strict=False) if mark != ord("?")}


def _check(row: Row, path: Path, line: int) -> None:
    for name in ("subject_id", "study_id"):
        if not row[name].isdecimal():
            raise wrong_row(path, line, f"{name} is '{row[name]}', expected a number")
    if not row["dicom_id"]:
        raise wrong_row(path, line, "dicom_id is empty")
