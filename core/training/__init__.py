"""The phases of a run in their order, each stage once; an interrupted run resumes where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.config.preset import Phase
from core.evaluate.table import MetricRow, as_text
from core.evaluate.verdicts import head_text
from core.training.align import align
from core.training.autoencoder import autoencoder
from core.training.diffuse import diffuse
from core.training.guide import guide
from core.training.measure import measure
from core.training.report import write_report
from core.training.session import TrainingSession

__all__ = ["PHASES", "MetricRow", "TrainingSession", "as_text", "head_text", "train"]

PHASES: Mapping[Phase, Callable[[TrainingSession], None]] = {
    "autoencoder": autoencoder,
    "align": align,
    "diffuse": diffuse,
    "guide": guide,
}


def train(session: TrainingSession) -> list[MetricRow]:
    """Run every phase that is not finished yet, and return the final table."""
    for phase in session.run.config.phases.run:
        PHASES[phase](session)
    measure(session)
    if session.compute.is_main:
        write_report(session.run.config, session.table)
    session.folder.close()
    return session.table
