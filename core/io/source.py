"""Checks before a file is opened, the same for every format."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError

_TODO = {errno.ENAMETOOLONG: "shorten it", errno.EACCES: "check its permissions and its folder's"}
_TODO_WRITING = {errno.ENAMETOOLONG: "shorten the name", errno.ENOSPC: "free some space, or choose another disk"}


def readable(path: Path, suffixes: tuple[str, ...]) -> Path:
    """The path of an existing, non-empty file with one of the suffixes; `UserError` that names it otherwise."""
    path = without_nul(path)
    with opening(path):
        return _checked(path, suffixes)


def without_nul(path: Path) -> Path:
    """The path; `UserError` where it holds a NUL character, which no file system stores."""
    path = Path(path)
    if "\0" in str(path):
        shown = str(path).replace("\0", "\\0")
        raise UserError(f"{shown}: holds a NUL character, which no file name may; correct the path")
    return path


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses (permission, too long a name, a broken disk) into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise _refused(path, error) from error


def _checked(path: Path, suffixes: tuple[str, ...]) -> Path:
    if not path.name.lower().endswith(suffixes):
        raise UserError(f"{path}: this reader reads {', '.join(suffixes)}; convert the file or choose another reader")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file")
    if not path.exists() and path.is_symlink():
        raise UserError(f"{path}: no such file: it is a link that leads nowhere, or to itself; correct the link")
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); copy or export it again")
    return path


@contextmanager
def decoding(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises on broken bytes into a `UserError` that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # foreign bytes make decoders fail in every way there is
        if isinstance(error, OSError) and _own(error).errno is not None:
            raise _refused(path, error) from error
        reason = _first_line(error)
        raise UserError(f"{path}: cannot be read as {what}: {reason}; copy or export it again") from error


def not_written(path: Path, error: OSError) -> UserError:
    """The `UserError` of a file or folder that the operating system did not let us write."""
    own = _own(error)
    todo = _TODO_WRITING.get(own.errno or 0, "check the folder")
    return UserError(f"{path}: cannot be written: {own.strerror or _first_line(error)}; {todo}")


def _refused(path: Path, error: OSError) -> UserError:
    own = _own(error)
    todo = _TODO.get(own.errno or 0, "check the path and the disk")
    return UserError(f"{path}: cannot be opened: {own.strerror or _first_line(error)}; {todo}")


def _own(error: OSError) -> OSError:
    """What the operating system said: pydicom raises it anew, with a traceback for a text and without its number."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause
        cause = cause.__cause__
    return error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
