"""Checks before a file is opened, the same for every format."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError

_TODO = {errno.ENAMETOOLONG: "shorten it", errno.EACCES: "check its permissions and its folder's"}


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
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path in the manifest")
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
        if isinstance(error, OSError) and error.errno is not None:
            raise _refused(path, error) from error
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read as {what}: {reason}; copy or export it again") from error


def _refused(path: Path, error: OSError) -> UserError:
    todo = _TODO.get(error.errno or 0, "check the path and the disk")
    return UserError(f"{path}: cannot be opened: {error.strerror or error}; {todo}")
