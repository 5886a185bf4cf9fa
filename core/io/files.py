"""Checks before a file is read or written, the same for every format, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from core.errors import UserError
from core.types import DataFile, FileRef, Sample

_TODO = {errno.ENAMETOOLONG: "shorten it", errno.EACCES: "check its permissions and its folder's"}
_TODO_WRITING = {errno.ENAMETOOLONG: "shorten the name", errno.ENOSPC: "free some space, or choose another disk"}


def require_file(path: DataFile, suffixes: tuple[str, ...]) -> Path:
    """Return the path of an existing, non-empty file with one of the suffixes; `UserError` that names it otherwise."""
    path = require_no_nul(path)
    with opening(path):
        return _require_content(path, suffixes)


def require_no_nul(path: DataFile) -> Path:
    """Return the path of a file.

    `UserError` for a picture in an archive, and for a NUL character, which no file system stores.
    """
    if isinstance(path, FileRef):
        raise UserError(f"{path}: is a picture in an archive, and this reader reads files; give a file")
    path = Path(path)
    if "\0" in str(path):
        shown = str(path).replace("\0", "\\0")
        raise UserError(f"{shown}: holds a NUL character, which no file name may; correct the path")
    return path


def _require_content(path: Path, suffixes: tuple[str, ...]) -> Path:
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
def opening(path: Path) -> Iterator[None]:
    """Turn an error of the operating system (permission, too long a name, a broken disk) into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise _open_error(path, error) from error


@contextmanager
def decoding(path: DataFile, what: str) -> Iterator[None]:
    """Turn every error that a decoder raises on broken bytes into a `UserError` that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # foreign bytes make decoders fail in every way there is
        if isinstance(error, OSError) and _system_error(error).errno is not None:
            raise _open_error(path, error) from error
        reason = _first_line(error)
        raise UserError(f"{path}: cannot be read as {what}: {reason}; copy or export it again") from error


def write_error(path: Path, error: OSError) -> UserError:
    """Return the `UserError` of a file or folder that the operating system did not let us write."""
    cause = _system_error(error)
    todo = _TODO_WRITING.get(cause.errno or 0, "check the folder")
    return UserError(f"{path}: cannot be written: {cause.strerror or _first_line(error)}; {todo}")


def _open_error(path: DataFile, error: OSError) -> UserError:
    cause = _system_error(error)
    todo = _TODO.get(cause.errno or 0, "check the path and the disk")
    return UserError(f"{path}: cannot be opened: {cause.strerror or _first_line(error)}; {todo}")


def _system_error(error: OSError) -> OSError:
    """Return the error of the operating system itself.

    pydicom raises a new one, whose text is a traceback and which has no number.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause
        cause = cause.__cause__
    return error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


@contextmanager
def atomic_write(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes ``path`` when the block ends well, and vanishes otherwise.

    The temporary path lies in the same folder and has the same suffix. Raises `UserError` when ``path`` exists and
    ``overwrite`` is false (also when it appears meanwhile), and when the folder is missing or cannot be written to.
    """
    path = require_no_nul(path)
    suffix = "".join(path.suffixes[-2:])[-16:]
    temporary = path.with_name(f".medweave-{secrets.token_hex(8)}{suffix}")
    try:
        _require_writable(path, overwrite)
        yield temporary
        sync(temporary)
        _publish(temporary, path, overwrite)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _require_writable(path: Path, overwrite: bool) -> None:
    """Raise `UserError` where nothing may be written: an existing file, a folder of that name, a missing folder."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file name")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already; choose another name or allow overwriting")


def _publish(temporary: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            # Unlike a rename, a link fails when the name was taken since the check.
            os.link(temporary, path)
            return
        except FileExistsError:
            _require_writable(path, overwrite=False)
        except OSError:
            _require_writable(path, overwrite=False)  # a file system without hard links
    temporary.replace(path)


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def require_storable(sample: Sample, path: Path, axes: tuple[int, ...]) -> np.ndarray:
    """Return the sample's array, ``channel *space`` with as many spatial axes as one of ``axes``.

    Raises `UserError` that names ``path`` for text, an empty array, numbers that are not real, another number of axes,
    or a shape that differs from that of the sample's geometry.
    """
    if isinstance(sample.data, str):
        raise UserError(f"{path}: the sample is text, expected an array; write it with the writer of its own modality")
    data = np.asarray(sample.data)
    if data.dtype.kind not in "iufb":
        raise UserError(f"{path}: the sample holds {data.dtype}, expected real numbers")
    if data.ndim - 1 not in axes:
        wanted = " or ".join(map(str, axes))
        raise UserError(f"{path}: the sample has shape {data.shape}, expected channels and {wanted} spatial axes")
    if data.size == 0:
        raise UserError(f"{path}: the sample has shape {data.shape} and so no values; nothing was written")
    if sample.geometry is not None and sample.geometry.shape != data.shape[1:]:
        raise UserError(
            f"{path}: the sample has shape {data.shape[1:]}, but its geometry {sample.geometry.shape};"
            " resize both together"
        )
    return data
