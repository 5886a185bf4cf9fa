"""Take over the studies that shards of a table have written to folders of their own."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from core.errors import MedWeaveWarning, UserError
from core.generate.output.folder import Command, OutputFolder, add_study, is_complete


def commands_of(folders: Sequence[Path], expected: Command) -> dict[Path, Command]:
    """Return the command of each folder; `UserError` for one that holds no studies of this table by this model.

    A folder that is not there is a warning: a shard without studies writes none.
    """
    for folder in folders:
        if not folder.exists():
            message = f"--merge {folder}: is not there; what it may have held is generated"
            warnings.warn(MedWeaveWarning(message), stacklevel=2)
    return {folder: _command_of(folder, expected) for folder in folders if folder.exists()}


def take_over(output: OutputFolder, commands: Mapping[Path, Command]) -> None:
    """Link the complete studies of these folders into the output; what they lack is left to be generated.

    Files are hard links where the disk allows it, and copies otherwise.
    """
    for folder, command in commands.items():
        for name, digest in command.rows.items():
            study = folder / name
            same = output.command.rows.get(name) == digest
            if same and not output.has(name) and _is_whole(study) and is_complete(folder, name, command.files.values()):
                add_study(output.folder, name, partial(_link_files, study))


def _command_of(folder: Path, expected: Command) -> Command:
    command = Command.read(folder)
    if command is None or not command.rows:
        raise UserError(f"--merge {folder}: holds no studies of a table; name a folder that --shard has written")
    there, wanted = ({**each.settings, "shard": ""} for each in (command, expected))
    other = [key for key in wanted if there.get(key) != wanted[key]]
    if other or dict(command.files) != dict(expected.files):
        raise UserError(
            f"--merge {folder}: was made with other settings ({', '.join(other) or 'outputs'}); give the same command"
            " as for its shard, without --shard"
        )
    return command


def _is_whole(study: Path) -> bool:
    """Return whether a study is a folder without links, which could lead anywhere."""
    return study.is_dir() and not study.is_symlink() and not any(path.is_symlink() for path in study.rglob("*"))


def _link_files(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
