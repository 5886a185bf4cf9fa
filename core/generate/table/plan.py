"""What a table makes: the studies of its rows, the batches they are computed in, and the shards of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.errors import UserError
from core.generate.table.row import TableRow


@dataclass(frozen=True)
class PlannedStudy:
    """One study of a row: the name of its folder, and its number among those of the row."""

    name: str
    row: TableRow
    index: int


@dataclass(frozen=True)
class Shard:
    """Part ``number``, from 1, of ``count`` parts of a table."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard of ``2/4``; `UserError` for anything else."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UserError(f"--shard {text}: write NUMBER/COUNT, from 1/COUNT to COUNT/COUNT, as 2/4")
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def planned_batches(rows: Sequence[TableRow], size: int, shard: Shard) -> list[list[PlannedStudy]]:
    """Return the studies of a shard in the batches that they are computed in.

    Rows of one kind share batches, in the order of the table. A batch belongs to one shard, so that it is the same
    whoever computes it, and rows that are added at the end move no batch to another shard.
    """
    kinds: dict[str, list[PlannedStudy]] = {}
    for row in rows:
        kinds.setdefault(row.kind(), []).extend(_studies(row))
    return [
        studies[start : start + size]
        for kind, studies in kinds.items()
        for number, start in enumerate(range(0, len(studies), size))
        if (_offset(kind) + number) % shard.count == shard.number - 1
    ]


def _studies(row: TableRow) -> Iterator[PlannedStudy]:
    return (PlannedStudy(name, row, index) for index, name in enumerate(row.study_names()))


def _offset(kind: str) -> int:
    """Return where a kind begins to deal its batches, so that many small kinds do not all fall to the first shard."""
    return int.from_bytes(hashlib.sha256(kind.encode()).digest()[:4], "big")
