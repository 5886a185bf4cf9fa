"""Read a table with a row per file and named columns: the adapter ``manifest``."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast, get_args

from core.api import DataFile, DatasetAdapter, Record, UserError, file_ref
from plugins.manifest.options import ManifestOptions, Row, read_options

TABLE = "manifest.csv"
TEXT = "text"  # the modality of the column `report`
_REQUIRED = ("study_id", "modality", "file")
_UNSPLIT = ("", "dev")  # names of a split that is still to be made
Split = Literal["train", "validation", "test"]


def scan(root: Path, **settings: Any) -> Iterator[Record]:
    """Yield a record per study, in the order of the table; one per report where a study has several.

    The columns ``study_id``, ``modality`` and ``file`` (below ``root``, see `ManifestOptions.outside`) are required.
    Optional are ``patient_id`` (else the study), ``split`` (``train``, ``validation``, ``test``; empty or ``dev``
    counts as ``train``, to be split with ``split = "by_patient"``), ``report``, and ``labels`` (those that are present,
    ``|`` between them). A row without a
    report has that of its study. Files of a study with different reports make a record per report, and those without
    a report another record. ``settings``: see `ManifestOptions`. `UserError` names the row.
    """
    options = read_options(settings)
    table = Path(root) / TABLE
    studies: dict[str, list[Row]] = {}
    for number, row in _rows(table):
        _require_valid(row, number, table, options)
        if not options.modality_of(row):
            continue
        studies.setdefault(row["study_id"], []).append(row)
    inside = "" if options.outside else os.path.realpath(root)
    for study, rows in studies.items():
        for row in rows:
            _require_inside(row["file"], inside, table)
        for number, (report, group) in enumerate(_by_report(rows).items(), 1):
            yield _record(f"{study}#{number}" if number > 1 else study, report, group, Path(root), options)


def _require_inside(file: str, root: str, table: Path) -> None:
    """Raise `UserError` for a file that is not below the folder, links followed: what it holds would be learned."""
    try:
        path = os.path.realpath(os.path.join(root, file.strip()))  # noqa: PTH118 - a million rows
        inside = not root or os.path.commonpath((root, path)) == root
    except ValueError:  # a NUL character, or another drive
        inside = False
    if not inside:
        raise UserError(
            f"{table}: file '{file}' leads out of the folder; put it there, or set options.outside = true if you trust"
            " the table"
        )


def _by_report(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of a study by their report; where there is only one report, rows without any have it too."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.get("report", "").strip(), []).append(row)
    reports = [report for report in groups if report]
    return {reports[0]: rows} if len(reports) == 1 else groups


def _rows(table: Path) -> Iterator[tuple[int, Row]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{table}: lacks the columns {', '.join(missing)}; it needs {', '.join(_REQUIRED)}")
            for row in reader:
                yield reader.line_num, {key: value or "" for key, value in row.items() if isinstance(key, str)}
    except FileNotFoundError:
        raise UserError(f"{table}: no such file; write one row per file, with {', '.join(_REQUIRED)}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: is no table in UTF-8 ({error}); export it again") from error


def _require_valid(row: Row, number: int, table: Path, options: ManifestOptions) -> None:
    missing = [name for name in options.columns if name not in row]
    if missing:
        raise UserError(f"{table}: lacks the columns {', '.join(missing)}, which options.columns names")
    empty = [name for name in _REQUIRED if not row[name].strip()]
    if empty:
        raise UserError(f"{table}, line {number}: {', '.join(empty)} is empty; fill it in, or take the row out")
    known = (*_UNSPLIT, *get_args(Split))
    if row.get("split", "") not in known:
        raise UserError(f"{table}, line {number}: split '{row['split']}' (known: {', '.join(known[1:])})")


def _record(study: str, report: str, rows: list[Row], root: Path, options: ManifestOptions) -> Record:
    first, files = rows[0], dict[str, tuple[DataFile, ...]]()
    for row in rows:
        name = options.modality_of(row)
        files[name] = (*files.get(name, ()), file_ref(root / row["file"].strip()))
    split = first.get("split", "")
    if any(row.get("split", "") != split for row in rows):
        raise UserError(f"{root / TABLE}: study '{study}' has rows of different splits; give it one")
    labels = options.labels_of(rows)
    report = report or options.text_of(labels, files)
    return Record(
        patient=first.get("patient_id") or first["study_id"],
        study=study,
        files=files,
        texts={TEXT: report} if report else {},
        split="train" if split in _UNSPLIT else cast(Split, split),
        labels=dict.fromkeys(labels, 1),
    )


MANIFEST = DatasetAdapter(
    name="manifest",
    title="A table with one row per file",
    modalities=(),
    licence="that of the data",
    citation="that of the data",
    scan=scan,
)
