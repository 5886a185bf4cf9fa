"""The log of a run: one JSON object per line, appended, always."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


class RunLog:
    """Appends rows to ``metrics.jsonl``. Each row is flushed, so a kill loses none that was written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def write(self, **row: Any) -> None:
        """Append one row; a value that JSON cannot hold (NaN, infinity) is written as a string."""
        safe = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(safe) + "\n")
