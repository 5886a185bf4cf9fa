"""What a scan leaves out: counted by reason, told in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

from core.api import MedWeaveWarning


class Omissions:
    """Counts by reason, each with its first example."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, example: object) -> None:
        """Count one more, e.g. ``add("images that are not there", path)``."""
        num, first = self._found.get(reason, (0, str(example)))
        self._found[reason] = (num + 1, first)

    def count(self, reason: str) -> int:
        """How many were left out for this reason."""
        return self._found.get(reason, (0, ""))[0]

    def tell(self, root: Path) -> None:
        """Warn once of all of them; nothing where nothing was left out."""
        if self._found:
            told = "; ".join(f"{num} {reason} (first: {first})" for reason, (num, first) in self._found.items())
            warnings.warn(MedWeaveWarning(f"{root}: left out or missing: {told}"), stacklevel=2)
