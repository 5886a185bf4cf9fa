"""When the files of a chunk were last written and what was in them, so that a changed file is noticed.

Times are stored here alone, so that everything else is the same bytes for every copy of a data set.
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
    """Hashes of the time and the content of a file, 64 bits each; both 0 for a text. ``taken``: training takes it."""

    time: int
    content: int
    taken: bool

    def is_of(self, path: DataFile | None) -> bool:
        """Return whether the file is this version: by its time, or where that differs by all its bytes."""
        return is_version(path, self.time, self.content)


def is_version(path: DataFile | None, time: int, content: int) -> bool:
    """Return whether a file has the time, or else the content. Copies and archives change the time alone."""
    return path is None or time_hash(path) == time or content_hash_or_zero(path) == content


def versions_path(folder: Path, number: int) -> Path:
    """Return ``00007.versions`` in the folder."""
    return folder / f"{number:05d}.versions"


def write_versions(path: Path, versions: Iterable[Version]) -> None:
    """Write the versions of a chunk."""
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps([astuple(version) for version in versions]), encoding="utf-8")


def read_versions(path: Path) -> list[Version] | None:
    """Return the versions of a chunk in the order of its files; ``None`` where they are missing or damaged."""
    try:
        return [Version(int(time), int(content), bool(taken)) for time, content, taken in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):
        return None


def taken_versions(folder: Path, num_chunks: int) -> list[Version]:
    """Return the versions of all files that training takes, in their order; `UserError` where one cannot be read."""
    taken: list[Version] = []
    for number in range(num_chunks):
        path = versions_path(folder, number)
        versions = read_versions(path)
        if versions is None:
            raise UserError(f"{path}: cannot be read; run core.prepare again")
        taken += [version for version in versions if version.taken]
    return taken
