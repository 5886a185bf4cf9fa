"""Locks that let one process at a time write in a folder; the system frees them when the process ends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from core.errors import UserError

_TEMPORARY = ".medweave-*"  # what `core.io.atomic_write` writes to; an interrupted process leaves it


def lock_file(path: Path, message: str, mode: str = "wb") -> IO[Any]:
    """Open a file and lock it until it is closed; `UserError` with ``message`` where another process has locked it.

    ``mode`` is that of `open`. On a system without POSIX locks the file is opened alone.
    """
    file = path.open(mode)
    try:
        import fcntl
    except ImportError:  # not a POSIX system: two processes are then the user's to avoid
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise UserError(message) from error
    return file


@contextmanager
def locked_folder(folder: Path, message: str) -> Iterator[None]:
    """Lock an existing folder itself, so that no file of a lock stands in it; otherwise as `lock_file`."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UserError(message) from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def folder_lock(folder: Path, subfolders: Sequence[str] = ()) -> Iterator[None]:
    """Make the folder, hold its lock, and remove what an interrupted process left half-written.

    Such files are looked for in the folder and in the ``subfolders`` (patterns), in no other: what lies there may be
    somebody else's. `UserError`: another process holds the lock, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock_file(folder / ".lock", f"{folder}: another core.prepare writes here; wait for it, or stop it")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{folder}: cannot be written: {reason}; name another folder with --out") from error
    with file:
        _remove_temporary(folder, subfolders)
        yield
        _remove_temporary(folder, subfolders)  # of a worker that outlived an interrupted process by a moment


def _remove_temporary(folder: Path, subfolders: Sequence[str]) -> None:
    for pattern in (_TEMPORARY, *(f"{subfolder}/{_TEMPORARY}" for subfolder in subfolders)):
        for file in folder.glob(pattern):
            with suppress(OSError):
                file.unlink()
