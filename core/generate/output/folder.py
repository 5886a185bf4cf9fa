"""The folder of generated studies: created, resumed, or cleared of an earlier command's studies."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.config.toml import dotted_items
from core.engine.checkpoint import write_json
from core.errors import UserError
from core.generate.output.study_record import RECORD, StudyRecord, file_digest
from core.io.lock import locked_folder

COMMAND, MANIFEST, SHEET, FAILURES = "generate.json", "manifest.csv", "contact_sheet.png", "failures.csv"
DATALIST, METADATA = "datalist.json", "metadata.jsonl"
TABLES = (MANIFEST, DATALIST, METADATA, SHEET, FAILURES)
_UNFINISHED = ".medweave-"
_MOST = 6  # names in a message
_SHOWN = 40  # characters of a setting in a message


@dataclass(frozen=True)
class Command:
    """What ``generate.json`` holds: number of studies, file names by modality, and everything that decides them.

    ``rows``: of a table, by the name of each of its studies, the digest of the row that makes it; of a single request
    nothing, and its studies are numbered.
    """

    num: int
    files: Mapping[str, str]
    settings: Mapping[str, Any]
    rows: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Command | None:
        """Return the earlier command of a folder; ``None`` where there is none that can be read."""
        try:
            content = json.loads((folder / COMMAND).read_text(encoding="utf-8"))
            files = {str(name): str(file) for name, file in content["files"].items()}
            rows = {str(name): str(digest) for name, digest in content.get("rows", {}).items()}
            command = cls(int(content["num"]), files, dict(content["settings"]), rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return command if all(Path(name).name == name for name in (*files.values(), *rows)) else None

    def content(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {name: value for name, value in vars(self).items() if name != "rows" or value}

    def studies(self) -> Iterator[str]:
        """Yield the names of its studies."""
        yield from self.rows or map(study_name, range(self.num))

    def names(self, name: str) -> bool:
        """Return whether a folder of this name is one of its studies."""
        if self.rows:
            return name in self.rows
        return name.isascii() and name.isdigit() and int(name) < self.num and study_name(int(name)) == name

    def wrote(self, path: Path) -> bool:
        """Return whether a path is one of its studies, and holds nothing else."""
        if not self.names(path.name) or path.is_symlink() or not path.is_dir():
            return False
        names = {RECORD, *self.files.values(), *(f"{file}.json" for file in self.files.values())}
        return all(entry.name in names and (entry.is_file() or _is_series(entry)) for entry in path.iterdir())


class OutputFolder:
    """The studies of one command in a folder. Nothing is removed or written before `begin`."""

    def __init__(self, folder: Path, command: Command, *, keep: bool) -> None:
        self.folder, self.command, self.keep = folder, command, keep

    def has(self, name: str) -> bool:
        """Return whether a study is complete from an earlier run of the same command."""
        return self.keep and is_complete(self.folder, name, self.command.files.values())

    def finished(self) -> bool:
        """Return whether nothing is left to do."""
        tables = [self.folder / name for name in TABLES if name != FAILURES]
        return all(path.is_file() for path in tables) and all(map(self.has, self.command.studies()))

    def missing(self, names: Iterable[str]) -> frozenset[str]:
        """Return which of these studies are still to be written."""
        return frozenset(name for name in names if not self.has(name))

    def require_studies(self, names: Iterable[str]) -> None:
        """Raise `UserError` where one of these studies is gone that was there."""
        files = (RECORD, *self.command.files.values())
        gone = [name for name in names if not all(is_written(self.folder / name / file) for file in files)]
        if gone:
            raise UserError(
                f"--out {self.folder}: files of {_few(gone)} were removed while the others were generated; run the"
                " command again"
            )

    def begin(self) -> None:
        """Remove unfinished or replaced studies, and record the command that writes here.

        The tables go too: they are of a finished folder, and this one is not yet.
        """
        old = Command.read(self.folder)
        for name in TABLES if old is not None else ():
            (self.folder / name).unlink(missing_ok=True)
        for path in [] if old is None else list(self.folder.iterdir()):
            if path.name.startswith(_UNFINISHED) or (not self.keep and _wrote(old, path)):
                _remove(path)
        write_json(self.folder / COMMAND, self.command.content())
        self.keep = True  # what is there from now on is of this command


def add_study(folder: Path, name: str, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder, which then becomes the study: a study appears whole or not at all."""
    study, unfinished = folder / name, folder / f"{_UNFINISHED}{name}"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir()
    try:
        write(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if study.exists():  # a study of this command that lost a file
        shutil.rmtree(study)
    unfinished.replace(study)


@contextmanager
def open_output(folder: Path, command: Command, *, overwrite: bool) -> Iterator[OutputFolder]:
    """Open the folder of a command, created where it is missing; `UserError` where it holds something else.

    One process at a time writes there. A folder that was created and stays empty is removed again.
    """
    with _reachable(folder):
        _require_free_or_same(folder, command, overwrite=overwrite)  # before anything is created
    created: list[Path] = []
    try:
        with _reachable(folder):
            _make(folder, created)
        taken = f"--out {folder}: another core.generate writes there; wait for it, or name another folder"
        with locked_folder(folder, taken):
            with _reachable(folder):
                keep = _require_free_or_same(folder, command, overwrite=overwrite)
            yield OutputFolder(folder, command, keep=keep)
    finally:
        for path in reversed(created):
            with suppress(OSError):  # not empty, as it should be
                path.rmdir()


def origin_of(file: Path, folder: Path) -> str:
    """Return study and path of the generated file with this content; empty where the folder records none.

    The name of the file does not count. Raises `UserError` where the file cannot be read, or the folder holds no
    generated studies.
    """
    command = Command.read(folder)
    if command is None:
        raise UserError(f"{folder}: holds no generated studies; name a folder that core.generate has written")
    try:
        digest = file_digest(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); name a file") from error
    return next((path for path, recorded in _recorded(folder, command) if recorded == digest), "")


def _recorded(folder: Path, command: Command) -> Iterator[tuple[str, str]]:
    for study in command.studies():
        if (folder / study / RECORD).is_file():
            record = StudyRecord.read(folder / study)
            yield from ((f"{study}/{path}", digest) for path, digest in record.sha256.items())


def is_complete(folder: Path, name: str, files: Iterable[str]) -> bool:
    """Return whether a study has all its files, and a record that can be read and is its own."""
    if not all(is_written(folder / name / file) for file in files):
        return False
    try:
        return StudyRecord.read(folder / name).study_id == name
    except UserError:
        return False


def study_name(index: int) -> str:
    """Return the name of the folder of a study."""
    return f"{index:04d}"


def is_written(path: Path) -> bool:
    """Return whether a file, or a folder with something in it, is there."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _is_series(path: Path) -> bool:
    """Return whether a path is a folder as a writer fills it: numbered files, and nothing else."""
    return (
        path.is_dir()
        and not path.is_symlink()
        and all(file.is_file() and file.stem.isdigit() for file in path.iterdir())
    )


@contextmanager
def _reachable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--out {folder}: cannot be written to ({reason}); name another folder") from error


def _make(folder: Path, created: list[Path]) -> None:
    for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        path.mkdir()
        created.append(path)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _require_free_or_same(folder: Path, command: Command, *, overwrite: bool) -> bool:
    """Return whether the folder holds studies of this command, to resume; `UserError` where it holds anything else."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UserError(f"--out {folder}: is a file; name a folder")
    paths, old = sorted(folder.iterdir()), Command.read(folder)
    if overwrite:
        _require_replaceable(folder, [path.name for path in paths if _taken(path, command, old)])
        return False
    if not paths:
        return False
    if old is None:
        raise UserError(f"--out {folder}: is not empty; name another folder, or add --overwrite")
    _require_same_command(folder, command, old)
    foreign = [
        path.name
        for path in paths
        if not (path.name == COMMAND or path.name.startswith(_UNFINISHED) or _wrote(old, path))
    ]
    if foreign:
        raise UserError(
            f"--out {folder}: holds more than generated studies ({_few(foreign)}); move it away, or name another folder"
        )
    return True


def _wrote(command: Command | None, path: Path) -> bool:
    """Return whether an earlier command wrote this."""
    return command is not None and (path.name in TABLES or command.wrote(path))


def _taken(path: Path, command: Command, old: Command | None) -> bool:
    """Return whether a name that this or the earlier command uses is taken by something that neither wrote."""
    used = path.name in (COMMAND, *TABLES) or any(each.names(path.name) for each in (command, old) if each)
    return used and not (_wrote(old, path) or (old is not None and path.name == COMMAND))


def _require_replaceable(folder: Path, taken: list[str]) -> None:
    if taken:
        raise UserError(
            f"--out {folder}: {_few(taken)} was not written by core.generate, and --overwrite replaces generated"
            " studies alone; name another folder"
        )


def _require_same_command(folder: Path, command: Command, old: Command) -> None:
    """Raise `UserError` where the folder holds studies of another command, and say how the two differ."""
    tables = (command.rows, old.rows)
    requested, there = (_settings_by_name(each.content() | {"rows": bool(each.rows)}) for each in (command, old))
    for settings in (requested, there) if all(tables) else ():
        settings.pop("num", None)  # a table may have grown
    other = [key for key in requested | there if requested.get(key) != there.get(key)]
    if other:
        differences = [
            f"{key}: {_short(there.get(key))} there, {_short(requested.get(key))} requested" for key in other
        ]
        raise UserError(
            f"--out {folder}: is not empty, it holds studies of another command ({_few(differences, '; ')}); name"
            " another folder, or add --overwrite"
        )
    made = (name for name, digest in old.rows.items() if command.rows.get(name) != digest)
    changed = [name for name in made if (folder / name).exists()]  # a row that failed may be corrected
    if changed:
        raise UserError(
            f"--out {folder}: holds studies of rows that have changed or are gone from the table ({_few(changed)});"
            " name another folder, or add --overwrite"
        )


def _settings_by_name(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name, those of an inner table without the table's name."""
    return {key.rpartition(".")[2]: value for key, value in dotted_items(table)}


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
