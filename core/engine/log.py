"""The log of a run: one JSON object per line, appended, always."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any


class RunLog:
    """Appends rows to ``metrics.jsonl``. A row is given to the system at once, so a kill loses none that was written.

    ``silent``: writes nothing (all processes but the first).
    """

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self.path, self.silent = path, silent
        if not silent:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **row: Any) -> None:
        """Append one row; a value that JSON cannot hold (NaN, infinity) is written as a string."""
        if self.silent:
            return
        safe = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(safe) + "\n")

    def size(self) -> int:
        """Bytes of the log, all of them safe on disk."""
        if self.silent or not self.path.exists():
            return 0
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def cut(self, size: int) -> None:
        """Drop what was written after the log had this size: those steps are done again."""
        if not self.silent and self.path.exists() and self.path.stat().st_size > size:
            os.truncate(self.path, size)
