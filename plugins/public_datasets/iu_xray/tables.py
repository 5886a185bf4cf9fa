"""IU X-ray as Kaggle's tables, and the images of a report with their views."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from core.api import Record, UserError
from plugins.public_datasets.csv_tables import Row, rows, wrong_row
from plugins.public_datasets.file_listing import folders_in
from plugins.public_datasets.skipped_files import Omissions

REPORTS, PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"
VIEWS = {"Frontal": "xray_frontal", "Lateral": "xray_lateral"}
SUFFIXES = (".png", ".jpg", ".dcm")
# CXR3_1_IM-1384-2001.png of Open-i and 3_IM-1384-2001.dcm.png of Kaggle are one image: report and image number tell.
_NAME = re.compile(r"(?:CXR)?(?P<uid>\d+)(?:_\d+)*_(?P<image>IM-[0-9A-Za-z-]+?)(?:\.dcm)?(?:\.png|\.jpg)?")
Key = tuple[str, str]


def scan(root: Path) -> Iterator[Record]:
    """A record per report, in the order of the table; all of them training, for there is no official split."""
    table, omitted, num = root / REPORTS, Omissions(), 0
    images, views = images_below(root), views_of(root / PROJECTIONS)
    by_report: dict[str, list[Key]] = {}
    for key in views:
        by_report.setdefault(key[0], []).append(key)
    for line, row in rows(table, ("uid", "Problems", "findings", "impression")):
        if not row["uid"].isdecimal():
            raise wrong_row(table, line, f"uid is '{row['uid']}', expected a number")
        files = files_of(by_report.get(row["uid"], []), images, views, omitted)
        num += len(files)
        text = report_of(row["findings"], row["impression"])
        if files or text:
            yield Record(
                patient=f"CXR{row['uid']}",
                study=f"CXR{row['uid']}",
                files=files,
                texts={"text": text} if text else {},
                labels=_labels(row),
            )
    if not num:
        raise UserError(f"{root}: holds no image of {PROJECTIONS}; expected images/images_normalized below it")
    omitted.tell(root)


def report_of(findings: str, impression: str) -> str:
    """The two sections that describe the images, under their headings."""
    told = {"FINDINGS": " ".join(findings.split()), "IMPRESSION": " ".join(impression.split())}
    return "\n".join(f"{heading}: {text}" for heading, text in told.items() if text)


def key_of(name: str) -> Key | None:
    """Report and image number of a file name or image id; ``None`` where it is neither."""
    found = _NAME.fullmatch(name.removesuffix(".dcm"))
    return (found["uid"], found["image"]) if found else None


def images_below(root: Path) -> dict[Key, Path]:
    """Every image of the collection below a folder."""
    found: dict[Key, Path] = {}
    for folder, names in folders_in(root):
        for name in names:
            key = key_of(name) if name.endswith(SUFFIXES) else None
            if key:
                found.setdefault(key, folder / name)
    return found


def views_of(table: Path) -> dict[Key, str]:
    """Image to modality. `UserError` names the line."""
    if not table.is_file():
        raise UserError(f"{table}: no such file, and it says which image is frontal; put it beside the reports")
    found: dict[Key, str] = {}
    for line, row in rows(table, ("uid", "filename", "projection")):
        key = key_of(row["filename"])
        if key is None or key[0] != row["uid"] or row["projection"] not in VIEWS:
            raise wrong_row(table, line, f"'{row['filename']}' is no image of {row['uid']}, or no Frontal or Lateral")
        found[key] = VIEWS[row["projection"]]
    return found


def files_of(
    keys: list[Key], images: dict[Key, Path], views: dict[Key, str], omitted: Omissions
) -> dict[str, tuple[Path, ...]]:
    """The images of a report by modality, in the order given."""
    found: dict[str, tuple[Path, ...]] = {}
    for key in keys:
        if key not in images:
            omitted.add("images that are listed and not there", "_".join(key))
        elif key not in views:
            omitted.add("images whose view is not stated", images[key])
        else:
            found[views[key]] = (*found.get(views[key], ()), images[key])
    return found


def _labels(row: Row) -> dict[str, int]:
    return {name.strip(): 1 for name in row["Problems"].split(";") if name.strip()}
