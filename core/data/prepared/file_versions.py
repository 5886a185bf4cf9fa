"""When the files of a portion were last written, and what was in them: whether they are still those that were read.

Times stand here alone, so that everything else is the same bytes for every copy of a data set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from core.data.fingerprint import content_hash_or_zero, time_hash
from core.errors import UserError
from core.io import atomic_write
from core.types import DataFile


@dataclass(frozen=True)
class Version:
    """The time and the content of a file, 64 bits each, both 0 for a text of a table. ``taken``: by training."""

    time: int
    content: int
    taken: bool

    def is_of(self, path: DataFile | None) -> bool:
        """Whether the file is this version: by its time, or where that differs by all its bytes."""
        return is_version(path, self.time, self.content)


def is_version(path: DataFile | None, time: int, content: int) -> bool:
    """Whether a file has the time, or else the content. Copies and archives change the time alone."""
    return path is None or time_hash(path) == time or content_hash_or_zero(path) == content


def versions_path(folder: Path, number: int) -> Path:
    """``00007.versions``"""
    return folder / f"{number:05d}.versions"


def write_versions(path: Path, versions: Iterable[Version]) -> None:
    """Write those of a portion."""
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps([astuple(one) for one in versions]), encoding="utf-8")


def read_versions(path: Path) -> list[Version] | None:
    """Those of a portion in the order of its files; ``None`` where they are missing or damaged."""
    try:
        return [Version(int(time), int(content), bool(taken)) for time, content, taken in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):
        return None


def taken_versions(folder: Path, num_portions: int) -> list[Version]:
    """Those of all files that training takes, in their order."""
    found: list[Version] = []
    for number in range(num_portions):
        path = versions_path(folder, number)
        versions = read_versions(path)
        if versions is None:
            raise UserError(f"{path}: cannot be read; run core.prepare again")
        found += [one for one in versions if one.taken]
    return found
