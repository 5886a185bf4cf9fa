"""Files and studies that a scan skips: counted by reason, reported in one warning."""

from __future__ import annotations

import warnings
from pathlib import Path

from core.api import MedWeaveWarning


class SkippedFiles:
    """Count skipped files and studies by reason, with the first example of each."""

    def __init__(self) -> None:
        self._reasons: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, example: object) -> None:
        """Count another one, e.g. ``add("images that are not there", path)``."""
        num, first = self._reasons.get(reason, (0, str(example)))
        self._reasons[reason] = (num + 1, first)

    def count(self, reason: str) -> int:
        """Return how many were skipped for this reason."""
        return self._reasons.get(reason, (0, ""))[0]

    def warn(self, root: Path) -> None:
        """Warn once of all of them, and not at all where nothing was skipped."""
        if self._reasons:
            counts = "; ".join(f"{num} {reason} (first: {first})" for reason, (num, first) in self._reasons.items())
            warnings.warn(MedWeaveWarning(f"{root}: left out or missing: {counts}"), stacklevel=2)
