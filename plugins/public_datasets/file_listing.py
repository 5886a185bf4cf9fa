"""List files and folders: each folder is listed once, and no file is looked up on its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from core.api import UserError


def list_names(folder: Path) -> set[str]:
    """Return the names in a folder; none where there is no such folder. `UserError` where it cannot be listed."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - paths of 377,110 files would cost more than their names
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise _listing_error(folder, error) from error


def walk_folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield ``root`` and every folder below it with the names of its files, both in alphabetical order.

    Links to folders are followed, each folder is visited once, and hidden folders are skipped.
    """
    seen: set[tuple[int, int]] = set()

    def raise_listing_error(error: OSError) -> None:
        raise _listing_error(Path(error.filename or root), error) from error

    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=raise_listing_error):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(folder), sorted(name for name in files if not name.startswith("."))


def _listing_error(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot be listed: {error.strerror or error}; check its permissions and the disk")
