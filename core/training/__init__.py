"""Runs the phases of a run in their order, each stage once, and goes on where a killed run stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.config.preset import Phase
from core.evaluate.table import Line, as_text
from core.training.align import align
from core.training.autoencoder import autoencoder
from core.training.diffuse import diffuse
from core.training.guide import guide
from core.training.measure import measure
from core.training.report import write_report
from core.training.session import Course

__all__ = ["PHASES", "Course", "Line", "as_text", "train"]

PHASES: Mapping[Phase, Callable[[Course], None]] = {
    "autoencoder": autoencoder,
    "align": align,
    "diffuse": diffuse,
    "guide": guide,
}


def train(course: Course) -> list[Line]:
    """Run every phase of the run that is not behind it, and return the final table."""
    for phase in course.run.config.phases.run:
        PHASES[phase](course)
    measure(course)
    if course.compute.is_main:
        write_report(course.run.config, course.table)
    course.folder.close()
    return course.table
