"""The tables beside generated studies: for MedWeave, for MONAI, and for Hugging Face ``datasets``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from core.generate.output.folder import DATALIST, MANIFEST, METADATA
from core.generate.output.study_record import StudyRecord
from core.io import atomic_write

COLUMNS: tuple[str, ...] = (
    *("study_id", "patient_id", "modality", "file", "split", "report", "labels", "labels_from"),
    *("prompts", "conditions", "seed", "index", "synthetic"),
)
_SECTIONS = {"": "training", "train": "training", "validation": "validation", "test": "test"}


def write_manifests(folder: Path, records: Sequence[StudyRecord]) -> None:
    """Write all tables of the studies of a folder, in this order.

    - ``manifest.csv``: a row per file, for the adapter ``manifest``; a generated text is a file there, and no report.
    - ``datalist.json``: a MONAI (Decathlon) data list with a dictionary per study, whose paths begin at the folder.
    - ``metadata.jsonl``: a row per study for ``datasets.load_dataset``, whose file columns end with ``file_name``.
    """
    _write(folder / MANIFEST, _manifest(records))
    _write(folder / DATALIST, json.dumps(_datalist(records), indent=1) + "\n")
    _write(folder / METADATA, "".join(f"{json.dumps(_metadata(record))}\n" for record in records))


def _write(path: Path, text: str) -> None:
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _manifest(records: Sequence[StudyRecord]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(row for record in records for row in _file_rows(record))
    return table.getvalue()


def _file_rows(record: StudyRecord) -> Iterator[dict[str, object]]:
    inputs = {"prompts": record.prompts, "conditions": record.conditions}
    shared = {
        **{name: getattr(record, name) for name in ("study_id", "patient_id", "split", "labels_from", "seed", "index")},
        **{name: json.dumps(dict(table), sort_keys=True) if table else "" for name, table in inputs.items()},
        "report": "" if record.report_from == "generated" else record.report,
        "labels": "|".join(name for name, value in record.labels.items() if value == "1"),
        "synthetic": "true",
    }
    for modality, file in record.files.items():
        yield {**shared, "modality": modality, "file": f"{record.study_id}/{file}"}


def _datalist(records: Sequence[StudyRecord]) -> dict[str, Any]:
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
    for record in records:
        lists[_SECTIONS[record.split]].append({**_described(record), **_files(record)})
    modalities = sorted({name for record in records for name in record.files})
    about = {"name": "MedWeave", "description": "synthetic studies, not of patients", "modality": modalities}
    return {**about, "numTraining": len(lists["training"]), "numTest": len(lists["test"]), **lists}


def _metadata(record: StudyRecord) -> dict[str, Any]:
    files = {f"{name}_file_name": file for name, file in _files(record).items()}
    return {**files, **_described(record)}


def _files(record: StudyRecord) -> dict[str, str]:
    return {name: f"{record.study_id}/{file}" for name, file in record.files.items()}


def _described(record: StudyRecord) -> dict[str, Any]:
    names = ("study_id", "patient_id", "split", "seed", "index", "report", "report_from", "synthetic")
    return {**{name: getattr(record, name) for name in names}, "labels": dict(record.labels)}
