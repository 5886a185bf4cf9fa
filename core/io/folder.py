"""Folders appear whole or not at all, as files do (`core.io.replace`)."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError
from core.io.mark import Mark
from core.io.replace import replacing, sync
from core.io.source import not_written, without_nul


@contextmanager
def replacing_folder(path: Path, suffix: str, *, overwrite: bool = False) -> Iterator[Path]:
    """A fresh folder to write into; it becomes ``path`` when the block ends well, and vanishes when it does not.

    Overwriting replaces a folder that holds nothing but files with ``suffix``. Raises `UserError` when ``path`` exists
    and may not be replaced, and when its parent is missing or cannot be written to.
    """
    path = without_nul(path)
    beside = path.with_name(f".medweave-{secrets.token_hex(8)}")
    try:
        _refuse_existing(path, suffix, overwrite)
        beside.mkdir()
        yield beside
        for one in beside.iterdir():
            sync(one)
        _publish(beside, path, suffix, overwrite)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_marked_folder(
    path: Path, mark: Mark, save: Callable[[Path], object], suffix: str, *, overwrite: bool
) -> None:
    """Let ``save`` fill a folder with files of this suffix, and write the mark beside it as ``<path>.json``."""
    notes = mark.model_dump_json(indent=1, exclude_none=True) + "\n"
    with (
        replacing(path.with_name(path.name + ".json"), overwrite=overwrite) as notes_beside,
        replacing_folder(path, suffix, overwrite=overwrite) as beside,
    ):
        save(beside)
        notes_beside.write_text(notes, encoding="utf-8")


def _refuse_existing(path: Path, suffix: str, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not (path.exists() or path.is_symlink()):
        return
    if not overwrite:
        raise UserError(f"{path}: exists already; choose another name or allow overwriting")
    if path.is_symlink() or not path.is_dir():
        raise UserError(f"{path}: is a file, expected a folder; choose another name")
    foreign = [one.name for one in sorted(path.iterdir()) if one.suffix != suffix or not one.is_file()]
    if foreign:
        raise UserError(
            f"{path}: holds more than {suffix} files ({foreign[0]}) and is not replaced; choose another name"
        )


def _publish(beside: Path, path: Path, suffix: str, overwrite: bool) -> None:
    """The old folder, where there is one, steps aside first: a folder cannot be renamed onto another.

    A kill between the two leaves it beside, whole, under a name that begins with ``.medweave-``.
    """
    _refuse_existing(path, suffix, overwrite)  # whatever came meanwhile
    aside = path.with_name(f"{beside.name}-old")
    if overwrite and path.exists():
        path.rename(aside)
    try:
        beside.rename(path)
    except OSError:
        if aside.exists():
            aside.rename(path)
        _refuse_existing(path, suffix, overwrite)
        raise
    shutil.rmtree(aside, ignore_errors=True)
