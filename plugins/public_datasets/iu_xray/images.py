"""Match the images of IU X-ray with reports and views, in every layout."""

from __future__ import annotations

import re
from pathlib import Path

from core.api import UserError
from plugins.public_datasets.csv_tables import read_rows, row_error
from plugins.public_datasets.file_listing import walk_folders
from plugins.public_datasets.skipped_files import SkippedFiles

PROJECTIONS = "indiana_projections.csv"
VIEWS = {"Frontal": "xray_frontal", "Lateral": "xray_lateral"}
SUFFIXES = (".png", ".jpg", ".dcm")
# CXR3_1_IM-1384-2001.png of Open-i and 3_IM-1384-2001.dcm.png of Kaggle are the same image: the numbers of report and
# image identify it.
_NAME = re.compile(r"(?:CXR)?(?P<uid>\d+)(?:_\d+)*_(?P<image>IM-[0-9A-Za-z-]+?)(?:\.dcm)?(?:\.png|\.jpg)?")
Key = tuple[str, str]


def image_key(name: str) -> Key | None:
    """Return report and image number of a file name or image id; ``None`` where it is neither."""
    match = _NAME.fullmatch(name.removesuffix(".dcm"))
    return (match["uid"], match["image"]) if match else None


def find_images(root: Path) -> dict[Key, Path]:
    """Return every image of the collection below a folder."""
    images: dict[Key, Path] = {}
    for folder, names in walk_folders(root):
        for name in names:
            key = image_key(name) if name.endswith(SUFFIXES) else None
            if key:
                images.setdefault(key, folder / name)
    return images


def read_views(table: Path) -> dict[Key, str]:
    """Return the modality of every image in the table of projections. `UserError` names the line."""
    if not table.is_file():
        raise UserError(f"{table}: no such file, and it says which image is frontal; put it beside the reports")
    views: dict[Key, str] = {}
    for line, row in read_rows(table, ("uid", "filename", "projection")):
        key = image_key(row["filename"])
        if key is None or key[0] != row["uid"] or row["projection"] not in VIEWS:
            raise row_error(table, line, f"'{row['filename']}' is no image of {row['uid']}, or no Frontal or Lateral")
        views[key] = VIEWS[row["projection"]]
    return views


def files_by_view(
    keys: list[Key], images: dict[Key, Path], views: dict[Key, str], skipped: SkippedFiles
) -> dict[str, tuple[Path, ...]]:
    """Return the images of a report by modality, in the order of ``keys``."""
    files: dict[str, tuple[Path, ...]] = {}
    for key in keys:
        if key not in images:
            skipped.add("images that are listed and not there", "_".join(key))
        elif key not in views:
            skipped.add("images whose view is not stated", images[key])
        else:
            files[views[key]] = (*files.get(views[key], ()), images[key])
    return files


def join_sections(findings: str, impression: str) -> str:
    """Return the two sections that describe the images, under their headings."""
    sections = {"FINDINGS": " ".join(findings.split()), "IMPRESSION": " ".join(impression.split())}
    return "\n".join(f"{heading}: {text}" for heading, text in sections.items() if text)
