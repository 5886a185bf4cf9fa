"""One process at a time in a prepared folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import UserError

_LEFT = ".medweave-*"  # what `core.io.atomic_write` writes to; a kill leaves it


@contextmanager
def alone_in(folder: Path, own: Sequence[str] = ()) -> Iterator[None]:
    """Make the folder, hold its lock, and remove what a killed process left half-written.

    That is looked for in the folder and in those below that ``own`` names (patterns), in no other: what lies there may
    be somebody else's. The system frees the lock when the process ends, however it ends. `UserError`: another process
    holds it, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{folder}: cannot be written: {reason}; name another folder with --out") from error
    with file:
        _lock(file.fileno(), folder)
        _tidy(folder, own)
        yield
        _tidy(folder, own)  # of a worker that outlived a killed process by a moment


def _tidy(folder: Path, own: Sequence[str]) -> None:
    for pattern in (_LEFT, *(f"{one}/{_LEFT}" for one in own)):
        for left in folder.glob(pattern):
            with suppress(OSError):
                left.unlink()


def _lock(number: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: two processes are then the user's to avoid
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UserError(f"{folder}: another core.prepare writes here; wait for it, or stop it") from error
