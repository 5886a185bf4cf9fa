"""Read IU X-ray as R2Gen prepared it: ``annotation.json``, in the layout of R2Gen's ``modules/datasets.py``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from core.api import MedWeaveWarning, Record, UserError
from plugins.public_datasets.file_listing import list_names
from plugins.public_datasets.skipped_files import SkippedFiles

TABLE, IMAGES = "annotation.json", "images"
VIEWS = ("xray_frontal", "xray_lateral")
SPLITS: Mapping[str, Literal["train", "validation", "test"]] = {"train": "train", "val": "validation", "test": "test"}


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per entry. The two images are taken as frontal and lateral in this order, which no file states."""
    skipped, num = SkippedFiles(), 0
    message = f"{root / TABLE}: states no views; of each pair the first is taken as frontal, the second as lateral"
    warnings.warn(MedWeaveWarning(message), stacklevel=2)
    for split, position, entry in _entries(root / TABLE):
        paths = [root / IMAGES / name for name in entry["image_path"]]
        if len(paths) != len(VIEWS):
            raise UserError(f"{root / TABLE}, {position}: has {len(paths)} images, expected two; download it again")
        files = {}
        for view, path in zip(VIEWS, paths, strict=True):
            if path.name in list_names(path.parent):
                files[view] = (path,)
                num += 1
            else:
                skipped.add(f"images listed in {TABLE} that are not there", path)
        text = entry["report"].strip()
        yield Record(
            patient=_patient(entry["id"]), study=entry["id"], files=files, texts={"text": text}, split=SPLITS[split]
        )
    if not num:
        raise UserError(f"{root}: holds no image of {TABLE}; expected {IMAGES}/CXR2384_IM-0942/0.png and the like")
    skipped.warn(root)


def _entries(table: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    try:
        content = json.loads(table.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{table}: cannot be read as JSON: {error}; download it again") from error
    wrong = sorted(set(content) ^ set(SPLITS)) if isinstance(content, dict) else ["no table"]
    if wrong:
        raise UserError(f"{table}: has {', '.join(wrong)} instead of train, val and test; download it again")
    for split in SPLITS:
        for number, entry in enumerate(content[split]):
            if not _is_complete(entry):
                raise UserError(f"{table}, {split}[{number}]: needs id, report and image_path; download it again")
            yield split, f"{split}[{number}]", entry


def _is_complete(entry: object) -> bool:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("id", "report")):
        return False
    paths = entry.get("image_path")
    # A path that leads out of the folder is no path of this data set.
    return isinstance(paths, list) and all(isinstance(path, str) and ".." not in Path(path).parts for path in paths)


def _patient(identifier: str) -> str:
    """Return ``CXR2384`` for ``CXR2384_IM-0942``."""
    return identifier.split("_", 1)[0]
