"""Reports alone, for tokenizer and text autoencoder: the same grammar, other patients, training only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.io import atomic_write
from plugins.phantom.anatomy.findings import draw_findings
from plugins.phantom.manifest import REPORTS, split_of
from plugins.phantom.report.grammar import write_report
from plugins.phantom.study import streams_of

_PER_COHORT = 20_000 / 1_200


def write_reports(root: Path, seed: int, num: int) -> None:
    """``reports.txt``, one report a line: 20,000 for a cohort of 1,200. No held-out patient's report is among them."""
    held_out = {report_of(seed, patient) for patient in range(num) if split_of(patient) != "train"}
    with atomic_write(root / REPORTS, overwrite=True) as beside, beside.open("w", encoding="utf-8") as file:
        file.writelines(f"{report}\n" for report in draw_reports(seed, round(num * _PER_COHORT), held_out))


def draw_reports(seed: int, num: int, excluded: set[str]) -> list[str]:
    """``num`` reports from a stream of their own; a draw that is among ``excluded`` is drawn again."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 2)))
    reports: list[str] = []
    while len(reports) < num:
        report = write_report(draw_findings(rng), rng)
        if report not in excluded:
            reports.append(report)
    return reports


def report_of(seed: int, patient: int) -> str:
    """A patient's report without the patient's body."""
    streams = streams_of(seed, patient)
    return write_report(draw_findings(streams["findings"]), streams["report"])
