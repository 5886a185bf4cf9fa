"""Whether a file came out of a folder of generated studies: its SHA-256 stands in the record of a study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from core.errors import UserError
from core.generate.output.folder import Command
from core.generate.output.study_record import StudyRecord, file_digest, is_recorded


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
    return next((place for place, recorded in _recorded(folder, command) if recorded == digest), "")


def _recorded(folder: Path, command: Command) -> Iterator[tuple[str, str]]:
    for study in command.studies():
        if is_recorded(folder / study):
            record = StudyRecord.read(folder / study)
            yield from ((f"{study}/{path}", digest) for path, digest in record.sha256.items())
