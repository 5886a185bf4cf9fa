"""Checks of spacing and orientation."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

import numpy as np

from core.data.audit.file_facts import Facts
from core.data.audit.findings import EXAMPLES, CountWithExamples, Finding, NameIndex, file_name, share

_FAR = 4.0  # robust standard deviations
_SAME = 0.05  # logarithm of a spacing: scanners agree to 5 %
_RARE, _MAJOR = 0.05, 0.5  # shares of the files


class SpacingAndOrientation:
    """Spacing and orientation: which files differ from the others."""

    def __init__(self, modality: str, names: NameIndex) -> None:
        self.modality, self.num, self.unknown, self.names = modality, 0, CountWithExamples(), names
        self.finest, self.coarsest = array("f"), array("f")
        self.numbers = array("L")
        self.orientations: Counter[str] = Counter()
        self.first_with: dict[str, str] = {}

    def add(self, facts: Facts) -> None:
        """Record its smallest and largest spacing (16 bytes with its number), and count its orientation."""
        if "orientation" not in facts:
            return
        self.num += 1
        self.orientations[facts["orientation"]] += 1
        self.first_with.setdefault(facts["orientation"], file_name(facts))
        if facts["spacing"] is None:
            self.unknown.add(facts)
            return
        self.finest.append(min(facts["spacing"]))
        self.coarsest.append(max(facts["spacing"]))
        self.numbers.append(self.names.last)

    def findings(self) -> Iterator[Finding]:
        """Yield unknown spacing, outliers of both."""
        if not self.num:
            return
        yield self.unknown.finding("spacing unknown", self.modality, self.num, "do not say how large a pixel is")
        finest, coarsest = np.array(self.finest), np.array(self.coarsest)
        far = np.flatnonzero(outliers(finest) | outliers(coarsest))
        middle = f" (median {np.median(finest):.3g} mm)" if len(finest) else ""
        yield Finding(
            check="spacing outliers",
            where=self.modality,
            verdict="warning" if len(far) else "ok",
            message=f"{share(len(far), len(finest))} lie far from the others{middle}",
            count=len(far),
            num=len(finest),
            examples=tuple(
                f"{self.names[self.numbers[index]]} ({finest[index]:.3g} to {coarsest[index]:.3g} mm)"
                for index in far[:EXAMPLES]
            ),
        )
        major, most = self.orientations.most_common(1)[0]
        few = max(1.0, _RARE * self.num) if most >= _MAJOR * self.num else 0.0
        rare = {name: num for name, num in self.orientations.items() if num < most and num <= few}
        yield Finding(
            check="orientation outliers",
            where=self.modality,
            verdict="warning" if rare else "ok",
            message=f"{share(sum(rare.values()), self.num)} are not {major}: {', '.join(rare) or 'none'}",
            count=sum(rare.values()),
            num=self.num,
            examples=tuple(f"{self.first_with[name]} ({name})" for name in rare)[:EXAMPLES],
            numbers=dict(self.orientations),
        )


def outliers(values: np.ndarray) -> np.ndarray:
    """Return which values lie beyond 4 robust standard deviations of the median, in logarithms.

    A standard deviation is taken as 5 % at least.
    """
    if not len(values):
        return np.zeros(0, dtype=bool)
    logs = np.log(np.maximum(values.astype(np.float64), 1e-9))
    off = np.abs(logs - np.median(logs))
    return off > _FAR * max(1.4826 * float(np.median(off)), _SAME)
