"""Read IU X-ray from the tables published at Kaggle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from core.api import Record, UserError
from plugins.public_datasets.csv_tables import Row, read_rows, row_error
from plugins.public_datasets.iu_xray.images import (
    PROJECTIONS,
    Key,
    files_by_view,
    find_images,
    join_sections,
    read_views,
)
from plugins.public_datasets.skipped_files import SkippedFiles

REPORTS = "indiana_reports.csv"


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per report, in the order of the table; all of them training, for there is no official split."""
    table, skipped, num = root / REPORTS, SkippedFiles(), 0
    images, views = find_images(root), read_views(root / PROJECTIONS)
    by_report: dict[str, list[Key]] = {}
    for key in views:
        by_report.setdefault(key[0], []).append(key)
    for line, row in read_rows(table, ("uid", "Problems", "findings", "impression")):
        if not row["uid"].isdecimal():
            raise row_error(table, line, f"uid is '{row['uid']}', expected a number")
        files = files_by_view(by_report.get(row["uid"], []), images, views, skipped)
        num += len(files)
        text = join_sections(row["findings"], row["impression"])
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
    skipped.warn(root)


def _labels(row: Row) -> dict[str, int]:
    return {name.strip(): 1 for name in row["Problems"].split(";") if name.strip()}
