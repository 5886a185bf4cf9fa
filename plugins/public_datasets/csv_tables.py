"""Read the tables of data sets: CSV, plain or gzipped, row by row."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO, cast

from core.api import UserError

Row = Mapping[str, str]


def find_table(root: Path, *names: str) -> Path | None:
    """Return the first of the named tables in a folder, plain before gzipped; ``None`` where there is none."""
    candidates = (root / f"{name}{packed}" for name in names for packed in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def require_table(root: Path, todo: str, *names: str) -> Path:
    """Return the same table; raise a `UserError` that says what to do where there is none."""
    table = find_table(root, *names)
    if table is None:
        raise UserError(f"{root}: has no {' and no '.join(names)} (nor with .gz); {todo}")
    return table


def read_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Yield line number and cells of every row, without the white space around them.

    `UserError` names the file and the line where a required column is missing, where a row ends before it, and where
    the file is not a table in UTF-8.
    """
    try:
        with _open_text(path) as file:
            reader = csv.DictReader(file)
            missing = [name for name in required if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: lacks the columns {', '.join(missing)}; it needs {', '.join(required)}")
            for row in reader:
                yield reader.line_num, _strip_cells(row, required, path, reader.line_num)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}; copy or download it again") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no table in UTF-8 ({error}); download it again") from error


def row_error(path: Path, line: int, problem: str, todo: str = "download the table again") -> UserError:
    """Return the error for a row with an invalid value; ``todo`` says how to mend it."""
    return UserError(f"{path}, line {line}: {problem}; {todo}")


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a list that are not blank, without the white space around them."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from (line.strip() for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list in UTF-8: {error}; download it again") from error


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def _strip_cells(row: dict[str, str | None], required: Sequence[str], path: Path, line: int) -> Row:
    short = [name for name in required if row.get(name) is None]
    if short:
        raise row_error(path, line, f"the row ends before the column {short[0]}")
    return {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
