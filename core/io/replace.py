"""Files appear whole or not at all: written beside, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import UserError
from core.io.source import not_written, without_nul


@contextmanager
def replacing(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` when the block ends well, and vanishes when it does not.

    The written path lies in the same folder and has the same suffix. Raises `UserError` when ``path`` exists and
    ``overwrite`` is false (also when it appears meanwhile), and when the folder is missing or cannot be written to.
    """
    path = without_nul(path)
    suffix = "".join(path.suffixes[-2:])[-16:]
    beside = path.with_name(f".medweave-{secrets.token_hex(8)}{suffix}")
    try:
        _refuse_existing(path, overwrite)
        yield beside
        sync(beside)
        _publish(beside, path, overwrite)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    """`UserError` where nothing may be written: an existing file, a folder of that name, a missing folder."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file name")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already; choose another name or allow overwriting")


def _publish(beside: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            # Unlike a rename, a link fails when the name was taken since we looked.
            os.link(beside, path)
            return
        except FileExistsError:
            _refuse_existing(path, overwrite=False)
        except OSError:
            _refuse_existing(path, overwrite=False)  # a file system without hard links
    beside.replace(path)


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
