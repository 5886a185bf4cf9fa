"""Checks before a file is opened, the same for every format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError


def readable(path: Path, suffixes: tuple[str, ...]) -> Path:
    """The path of an existing, non-empty file with one of the suffixes; `UserError` that names it otherwise."""
    path = Path(path)
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
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read as {what}: {reason}; copy or export it again") from error
