"""Read a table of requests: CSV with a row per request, or JSON lines with an object per request."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.generate.table.row import TableRow, parsed_row, require_columns

_LARGEST_CELL = 10**8  # characters; the module csv refuses 131,072
_SUFFIXES = (".csv", ".jsonl")
_GIVEN = "condition"
_INPUTS = ("prompt", _GIVEN)


@dataclass(frozen=True)
class Failure:
    """A row that makes no study, or a study that could not be made, and why."""

    line: int
    study: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RequestTable:
    """The rows of a file that can be used, and those that cannot. Paths in it begin at its ``folder``.

    ``given``: the modalities that some row gives as a condition, a wrong one too.
    """

    folder: Path
    rows: tuple[TableRow, ...]
    failures: tuple[Failure, ...]
    given: tuple[str, ...]


def read_table(path: Path, modalities: Collection[str]) -> RequestTable:
    """Read a table whose columns name ``modalities``.

    A row that is wrong becomes a `Failure`. Raises `UserError` where the table as a whole cannot be used: it is no CSV
    or JSON lines in UTF-8, has no rows, an unknown column, a row without a study id, or one study id twice.
    """
    rows: list[TableRow] = []
    failures: list[Failure] = []
    lines: dict[str, int] = {}  # of the names of studies, in lower case: some disks know no other
    with_inputs, columns, given = False, tuple[str, ...](), dict[str, None]()
    for line, cells in _cells(path):
        if tuple(cells) != columns:
            columns = tuple(cells)
            require_columns(columns, modalities, f"{path}, line {line}")
        given |= dict.fromkeys(
            column.partition(".")[2] for column, value in cells.items() if value and column.startswith(f"{_GIVEN}.")
        )
        with_inputs |= any(column.partition(".")[0] in _INPUTS for column in cells)
        study = _require_study_id(path, line, cells)
        try:
            row = parsed_row(line, cells)
            names = row.study_names()
        except UserError as error:
            failures.append(Failure(line, study, str(error)))
            names = [study]
        else:
            rows.append(row)
        for name in names:
            earlier = lines.setdefault(name.lower(), line)
            if earlier != line:
                raise UserError(
                    f"{path}, line {line}: study_id '{name}' stands in line {earlier} too; give each its own"
                )
    if not lines:
        raise UserError(f"{path}: has no rows; write one per study, with study_id and prompt.MODALITY")
    if with_inputs:
        failures += [Failure(row.line, row.study_id, _NO_INPUT) for row in rows if not (row.prompt or row.condition)]
        rows = [row for row in rows if row.prompt or row.condition]
    failures.sort(key=lambda failure: failure.line)
    return RequestTable(folder=path.parent, rows=tuple(rows), failures=tuple(failures), given=tuple(given))


_NO_INPUT = "has no prompt and no condition; fill a cell, or keep such rows in a table without these columns"


def _require_study_id(path: Path, line: int, cells: Mapping[str, Any]) -> str:
    study = str(cells.get("study_id") or "").strip()
    if not study:
        raise UserError(f"{path}, line {line}: study_id is empty; give every row a name of its own, as p0001")
    return study


def _cells(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line and cells by column of every row; `UserError` where the file cannot be read so."""
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{path}: is no table ({' or '.join(_SUFFIXES)}); export it as one of these")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _of_csv(path, file) if path.suffix.lower() == ".csv" else _of_json_lines(path, file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); correct the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no table in UTF-8 ({error}); export it again") from error


def _of_csv(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.DictReader(file, restkey="", strict=True)
    columns = [column.strip() for column in reader.fieldnames or ()]
    spare = len(columns)
    while columns and not columns[-1]:  # as spreadsheets write them
        columns.pop()
    spare -= len(columns)
    twice = [column for column in columns if columns.count(column) > 1]
    if "study_id" not in columns or twice:
        fault = f"has the column '{twice[0]}' twice" if twice else "lacks the column study_id"
        raise UserError(f"{path}: {fault}; name every column once, and give every row a study_id")
    reader.fieldnames = columns
    for cells in reader:
        extra = cells.pop("", None) or []
        if len(extra) > spare or any(cell.strip() for cell in extra):
            raise UserError(
                f"{path}, line {reader.line_num}: has more cells than there are columns; put texts with a comma in"
                " quotation marks"
            )
        yield reader.line_num, {column: (value or "").strip() for column, value in cells.items()}


def _of_json_lines(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: is no JSON ({error}); write one object per line") from None
        if not _is_unicode(line):
            raise UserError(f"{path}, line {number}: holds half a character (a surrogate); export it again")
        if not isinstance(content, dict):
            raise UserError(f'{path}, line {number}: is no JSON object; write one per line, as {{"study_id": "a"}}')
        yield number, dict(_flat(content))


def _is_unicode(line: str) -> bool:
    """Return whether all strings of a line of JSON can be written again."""
    try:
        json.dumps(json.loads(line), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _flat(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield cells by column: an inner object stands for columns with a dot."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", each) for inner, each in value.items())
        else:
            yield name, value
