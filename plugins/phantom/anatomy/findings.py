"""Draw a patient's findings, each with its side and severity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from core.io import CHEST_FINDINGS

Side = Literal["left", "right", "bilateral", "none"]

FINDINGS = CHEST_FINDINGS
NO_FINDING = "no_finding"
GRADES = ("mild", "moderate", "severe")
ZONES = ("upper", "middle", "lower")

_HEALTHY = 0.28  # share of patients without any finding
_FURTHER = 0.18  # chance of every finding beyond the first
_BILATERAL = {"pleural_effusion": 0.3, "consolidation": 0.15, "atelectasis": 0.25}


@dataclass(frozen=True)
class Finding:
    """Describe a finding: ``severity`` 0 to 1 sets size and density continuously.

    ``zone`` is its height in the lung, ``None`` where that does not vary.
    """

    name: str
    severity: float
    side: Side = "none"
    zone: str | None = None

    @property
    def grade(self) -> str:
        """Return the third of the severity: mild, moderate or severe."""
        return GRADES[min(2, int(self.severity * 3))]

    @property
    def sides(self) -> tuple[int, ...]:
        """Return the signs of x where it lies: the patient's right is +1, the left -1."""
        return {"left": (-1,), "right": (1,), "bilateral": (1, -1), "none": ()}[self.side]

    def about(self) -> dict[str, Any]:
        """Return the values for the parameter file."""
        return {**asdict(self), "grade": self.grade}


def draw_findings(rng: np.random.Generator) -> tuple[Finding, ...]:
    """Draw no finding, or a uniformly drawn one and others by chance, independent of each other."""
    if rng.random() < _HEALTHY:
        return ()
    present = rng.random(len(FINDINGS)) < _FURTHER
    present[rng.integers(len(FINDINGS))] = True
    return tuple(_drawn(name, rng) for name, here in zip(FINDINGS, present, strict=True) if here)


def _drawn(name: str, rng: np.random.Generator) -> Finding:
    severity = round(float(rng.random()), 4)
    side: Side = "left" if rng.random() < 0.5 else "right"
    if rng.random() < _BILATERAL.get(name, 0.0):
        side = "bilateral"
    zone = str(rng.choice(ZONES))
    if name in ("cardiomegaly", "edema"):
        return Finding(name, severity, "none" if name == "cardiomegaly" else "bilateral")
    if name in ("consolidation", "lung_lesion"):
        return Finding(name, severity, side, zone)
    return Finding(name, severity, side)


def labels_of(findings: tuple[Finding, ...]) -> dict[str, int]:
    """Return 1 or 0 for every finding, and for having none."""
    present = {finding.name for finding in findings}
    return {**{name: int(name in present) for name in FINDINGS}, NO_FINDING: int(not present)}


def find(findings: tuple[Finding, ...], name: str) -> Finding | None:
    """Return the finding of that name, if the patient has it."""
    return next((finding for finding in findings if finding.name == name), None)


def lesion_diameter_mm(finding: Finding) -> float:
    """Return the diameter of a lung lesion of this severity, mm; from 30 mm on it is a mass (Fleischner Society)."""
    return 12 + 70 * finding.severity**0.9
