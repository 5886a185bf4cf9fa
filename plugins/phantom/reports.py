"""Write reports without images, to train tokenizer and text autoencoder: the same grammar, other patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.io import atomic_write
from plugins.phantom.anatomy.findings import draw_findings
from plugins.phantom.manifest import REPORTS, split_of
from plugins.phantom.report.grammar import write_report
from plugins.phantom.study import make_generators

_PER_COHORT = 20_000 / 1_200


def write_reports(root: Path, seed: int, num: int) -> None:
    """Write ``reports.txt``, a report per line: 20,000 for a cohort of 1,200, and none of a held-out patient."""
    held_out = {report_of(seed, patient) for patient in range(num) if split_of(patient) != "train"}
    with atomic_write(root / REPORTS, overwrite=True) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{report}\n" for report in draw_reports(seed, round(num * _PER_COHORT), held_out))


def draw_reports(seed: int, num: int, excluded: set[str]) -> list[str]:
    """Return ``num`` reports from a separate random stream; a draw that is among ``excluded`` is drawn again."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 2)))
    reports: list[str] = []
    while len(reports) < num:
        report = write_report(draw_findings(rng), rng)
        if report not in excluded:
            reports.append(report)
    return reports


def report_of(seed: int, patient: int) -> str:
    """Return a patient's report without computing the body."""
    streams = make_generators(seed, patient)
    return write_report(draw_findings(streams["findings"]), streams["report"])
