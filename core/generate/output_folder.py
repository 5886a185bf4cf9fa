"""The folder that generated studies are written to: made, gone on with, or cleared of an earlier command's studies."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.engine.checkpoint import write_json
from core.errors import UserError
from core.io import atomic_write

COMMAND, MANIFEST, SHEET = "generate.json", "manifest.csv", "contact_sheet.png"
COLUMNS: tuple[str, ...] = ("study_id", "patient_id", "modality", "file", "split", "report", "synthetic")
_BESIDE = ".medweave-"  # what is not finished
_MOST = 6  # names in a message
_SHOWN = 40  # characters of a setting in a message


@dataclass(frozen=True)
class Command:
    """What ``generate.json`` holds: number of studies, file names by modality, and everything that decides them."""

    num: int
    files: Mapping[str, str]
    settings: Mapping[str, Any]

    @classmethod
    def found(cls, folder: Path) -> Command | None:
        """That of an earlier command; ``None`` where there is none that can be read."""
        try:
            content = json.loads((folder / COMMAND).read_text(encoding="utf-8"))
            files = {str(name): str(file) for name, file in content["files"].items()}
            found = cls(int(content["num"]), files, dict(content["settings"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return found if all(Path(file).name == file for file in files.values()) else None

    def names(self, name: str) -> bool:
        """Whether a folder of this name is one of its studies."""
        return name.isascii() and name.isdigit() and int(name) < self.num and study_name(int(name)) == name

    def wrote(self, path: Path) -> bool:
        """Whether a path is one of its studies, and holds nothing else."""
        if not self.names(path.name) or path.is_symlink() or not path.is_dir():
            return False
        own = {*self.files.values(), *(f"{file}.json" for file in self.files.values())}
        return all(one.name in own and (one.is_file() or _is_series(one)) for one in path.iterdir())


class Place:
    """The studies of one command in a folder. Nothing is removed or written before the first study is there."""

    def __init__(self, folder: Path, command: Command, *, keep: bool) -> None:
        self.folder, self.command, self.keep = folder, command, keep
        self._begun = False

    def has(self, index: int) -> bool:
        """Whether a study is there, whole, from an earlier run of the same command."""
        place = self.folder / study_name(index)
        return self.keep and all(_is_there(place / file) for file in self.command.files.values())

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        tables = (self.folder / MANIFEST, self.folder / SHEET)
        return all(path.is_file() for path in tables) and all(self.has(index) for index in range(self.command.num))

    def add(self, index: int, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a folder, which then becomes the study: it appears whole or not at all."""
        self._begin()
        place, beside = self.folder / study_name(index), self.folder / f"{_BESIDE}{study_name(index)}"
        beside.mkdir()
        try:
            write(beside)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        if place.exists():  # a study of this command that lost a file
            shutil.rmtree(place)
        beside.replace(place)

    def write_manifest(self) -> None:
        """A row per file, as the adapter ``manifest`` reads them; a generated text is a file too, not a report."""
        table = io.StringIO()
        writer = csv.DictWriter(table, COLUMNS, restval="")
        writer.writeheader()
        for study in map(study_name, range(self.command.num)):
            for name, file in self.command.files.items():
                row = {"study_id": study, "patient_id": study, "modality": name, "file": f"{study}/{file}"}
                writer.writerow({**row, "synthetic": "true"})
        with atomic_write(self.folder / MANIFEST, overwrite=True) as beside:
            beside.write_text(table.getvalue(), encoding="utf-8")

    def _begin(self) -> None:
        """Once: remove what is unfinished or replaced, and say which command writes here."""
        if self._begun:
            return
        self._begun = True
        old = Command.found(self.folder)
        for path in [] if old is None else list(self.folder.iterdir()):
            if path.name.startswith(_BESIDE) or (not self.keep and _of(old, path)):
                _remove(path)
        write_json(self.folder / COMMAND, vars(self.command))


@contextmanager
def opened(folder: Path, command: Command, *, overwrite: bool) -> Iterator[Place]:
    """The folder of a command, made where it is missing; `UserError` where it holds something else.

    A folder that was made and stays empty is removed again.
    """
    with _reachable(folder):
        keep = _refuse_content(folder, command, overwrite=overwrite)
    made: list[Path] = []
    try:
        with _reachable(folder):
            _make(folder, made)
        yield Place(folder, command, keep=keep)
    finally:
        for path in reversed(made):
            with suppress(OSError):  # not empty, as it should be
                path.rmdir()


def study_name(index: int) -> str:
    """The folder of a study."""
    return f"{index:04d}"


def _is_there(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _is_series(path: Path) -> bool:
    """Whether a path is a folder as a writer fills it: numbered files, and nothing else."""
    return (
        path.is_dir() and not path.is_symlink() and all(one.is_file() and one.stem.isdigit() for one in path.iterdir())
    )


@contextmanager
def _reachable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--out {folder}: cannot be written to ({reason}); name another folder") from error


def _make(folder: Path, made: list[Path]) -> None:
    for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        path.mkdir()
        made.append(path)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _refuse_content(folder: Path, command: Command, *, overwrite: bool) -> bool:
    """Whether the folder holds studies of this command, to go on with; `UserError` where it holds anything else."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UserError(f"--out {folder}: is a file; name a folder")
    paths, old = sorted(folder.iterdir()), Command.found(folder)
    if overwrite:
        _refuse_taken(folder, [path.name for path in paths if _taken(path, command, old)])
        return False
    if not paths:
        return False
    if old is None:
        raise UserError(f"--out {folder}: is not empty; name another folder, or add --overwrite")
    _refuse_other(folder, command, old)
    foreign = [
        path.name for path in paths if not (path.name == COMMAND or path.name.startswith(_BESIDE) or _of(old, path))
    ]
    if foreign:
        raise UserError(
            f"--out {folder}: holds more than generated studies ({_few(foreign)}); move it away, or name another folder"
        )
    return True


def _of(command: Command | None, path: Path) -> bool:
    """Whether an earlier command wrote this."""
    return command is not None and (path.name in (MANIFEST, SHEET) or command.wrote(path))


def _taken(path: Path, command: Command, old: Command | None) -> bool:
    """Whether a name that this or the earlier command uses is taken by something that neither wrote."""
    used = path.name in (COMMAND, MANIFEST, SHEET) or any(one.names(path.name) for one in (command, old) if one)
    return used and not (_of(old, path) or (old is not None and path.name == COMMAND))


def _refuse_taken(folder: Path, taken: list[str]) -> None:
    if taken:
        raise UserError(
            f"--out {folder}: {_few(taken)} was not written by core.generate, and --overwrite replaces generated"
            " studies alone; name another folder"
        )


def _refuse_other(folder: Path, command: Command, old: Command) -> None:
    """`UserError` that says how the command differs from the one that the folder holds studies of."""
    asked, there = _flat(vars(command)), _flat(vars(old))
    other = [key for key in asked | there if asked.get(key) != there.get(key)]
    if other:
        told = [f"{key}: {_short(there.get(key))} there, {_short(asked.get(key))} asked" for key in other]
        raise UserError(
            f"--out {folder}: is not empty, it holds studies of another command ({_few(told, '; ')}); name another"
            " folder, or add --overwrite"
        )


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, as JSON keeps them; those of an inner table without the table's name."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {key: value}
    return flat


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _few(names: list[str], between: str = ", ") -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return between.join(names[:_MOST]) + more


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
