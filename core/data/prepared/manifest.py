"""The studies of a data set as its scan lists them: JSON lines, written and read one at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from core.data.fingerprint import encoded
from core.errors import UserError
from core.io import atomic_write
from core.io.dicom.series_files import is_index
from core.types import DataFile, FileRef, Record, file_ref

FILE = "manifest.jsonl"
_SCHEMA = 1
_TODO = "remove it, and run core.prepare again"


def source_digest(root: Path, adapter: str, options: Mapping[str, Any]) -> str:
    """Return a hash of where and how studies were looked for, and of what lies directly in the folder.

    Names, sizes and times of the entries of ``root`` count, not of what lies below them: tables and new folders are
    noticed at once, and no tree is walked for it.
    """
    digest = blake2b(digest_size=16)
    shown = json.dumps(options, sort_keys=True, default=str)
    digest.update(encoded(repr((_SCHEMA, str(root.resolve()), adapter, shown, sorted(_entries(root))))))
    return digest.hexdigest()


def write_manifest(path: Path, records: Iterable[Record], root: Path, source: str) -> int:
    """Write the studies as they come, paths relative to ``root``; return how many. The file appears whole."""
    num = 0
    with atomic_write(path, overwrite=True) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(_line({"schema": _SCHEMA, "source": source}))
        for record in records:
            file.write(_line(_row(record, root)))
            num += 1
        file.write(_line({"studies": num}))
    return num


def is_fresh(path: Path, source: str) -> bool:
    """Return whether the manifest is there and is that of this source."""
    try:
        with path.open(encoding="utf-8") as file:
            return json.loads(file.readline()) == {"schema": _SCHEMA, "source": source}
    except (OSError, ValueError):
        return False


def read_manifest(path: Path, root: Path) -> Iterator[Record]:
    """Yield the studies in the order of the scan. `UserError` with the line where the file is damaged."""
    number, num = 1, 0
    try:
        with path.open(encoding="utf-8") as file:
            file.readline()
            for number, line in enumerate(file, 2):  # noqa: B007 - errors name it
                row = json.loads(line)
                if row == {"studies": num}:
                    return
                yield _record(row, root)
                num += 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}, line {number}: cannot be read ({error}); {_TODO}") from error
    raise UserError(f"{path}, line {number}: ends before its last study; {_TODO}")


def relative(file: DataFile, root: Path) -> str:
    """Return the path below ``root``, or the whole path where it leads elsewhere; `file_ref` reads it again."""
    if isinstance(file, FileRef):
        return relative(file.path, root) + file.suffix
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.absolute().as_posix()


def _entries(root: Path) -> Iterator[tuple[str, int, int]]:
    with os.scandir(root) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not is_index(Path(entry.name)):
                try:
                    status = entry.stat()
                except OSError:  # a link to nowhere, or to itself
                    yield entry.name, -1, -1
                else:
                    yield entry.name, -1 if entry.is_dir() else status.st_size, status.st_mtime_ns


def _row(record: Record, root: Path) -> dict[str, Any]:
    row = {
        "patient": record.patient,
        "study": record.study,
        "split": record.split,
        "files": {name: [relative(path, root) for path in paths] for name, paths in record.files.items()},
        "texts": dict(record.texts),
        "labels": dict(record.labels),
        "masks": {name: relative(path, root) for name, path in record.masks.items()},
        "strata": dict(record.strata),
    }
    return {key: value for key, value in row.items() if value or key in ("patient", "study")}


def _record(row: Mapping[str, Any], root: Path) -> Record:
    return Record(
        patient=row["patient"],
        study=row["study"],
        split=row["split"],
        files={name: tuple(file_ref(root / path) for path in paths) for name, paths in row.get("files", {}).items()},
        texts=row.get("texts", {}),
        labels=row.get("labels", {}),
        masks={name: root / path for name, path in row.get("masks", {}).items()},
        strata=row.get("strata", {}),
    )


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"), default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """Return a number of numpy's as Python's."""
    return value.item() if hasattr(value, "item") else str(value)
