"""Tables of data sets: CSV, plain or gzipped, a row at a time."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO, cast

from core.api import UserError

Row = Mapping[str, str]


def table(root: Path, *names: str) -> Path | None:
    """The first of the named tables in a folder, plain before gzipped; ``None`` where there is none."""
    candidates = (root / f"{name}{packed}" for name in names for packed in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def require_table(root: Path, todo: str, *names: str) -> Path:
    """The same, and a `UserError` that says what to do where there is none."""
    found = table(root, *names)
    if found is None:
        raise UserError(f"{root}: has no {' and no '.join(names)} (nor with .gz); {todo}")
    return found


def rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Line number and cells of every row, without the white space around them.

    `UserError` that names the file and the line: a required column lacks, a row ends before it, no UTF-8, no table.
    """
    try:
        with _opened(path) as file:
            reader = csv.DictReader(file)
            missing = [name for name in required if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: lacks the columns {', '.join(missing)}; it needs {', '.join(required)}")
            for row in reader:
                yield reader.line_num, _cells(row, required, path, reader.line_num)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}; copy or download it again") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no table in UTF-8 ({error}); download it again") from error


def wrong_row(path: Path, line: int, problem: str, todo: str = "download the table again") -> UserError:
    """The error of a row that says what it may not say."""
    return UserError(f"{path}, line {line}: {problem}; {todo}")


def lines(path: Path) -> Iterator[str]:
    """The lines of a list that hold something, without the white space around them."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from (line.strip() for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list in UTF-8: {error}; download it again") from error


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def _cells(row: dict[str, str | None], required: Sequence[str], path: Path, line: int) -> Row:
    short = [name for name in required if row.get(name) is None]
    if short:
        raise wrong_row(path, line, f"the row ends before the column {short[0]}")
    return {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
