"""Names of files and folders: a folder is listed once, and no file is asked for itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from core.api import UserError


def names_in(folder: Path) -> set[str]:
    """Names in a folder; none where there is no such folder. `UserError` where it is closed to the user."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - paths of 377,110 files would cost more than their names
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise _refused(folder, error) from error


def folders_in(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder below ``root`` and itself, with the names of its files; both in alphabetical order.

    Links to folders are followed, each folder once, hidden ones not at all.
    """
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise _refused(Path(error.filename or root), error) from error

    for place, below, files in os.walk(root, followlinks=True, onerror=refuse):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(place), sorted(name for name in files if not name.startswith("."))


def _refused(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot be listed: {error.strerror or error}; check its permissions and the disk")
