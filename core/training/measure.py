"""After the last phase: is what the run makes faithful and coherent? Measured once, on the test split (METHOD 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from core.config.preset import Phase
from core.evaluate.agreement import agreements
from core.evaluate.coherence import coherences
from core.evaluate.coupling import benefits
from core.evaluate.reconstruction import reconstructions, translations
from core.evaluate.report_findings import tellings
from core.evaluate.retrieval import retrievals
from core.evaluate.sample_sheets import pictures
from core.evaluate.table import Line
from core.evaluate.test_set import Subjects
from core.training.session import Course

__all__ = ["MEASURES", "measure"]

# What is measured, and the phases that it needs.
MEASURES: Mapping[str, tuple[tuple[Phase, ...], Callable[[Subjects], Iterable[Line]]]] = {
    "shared space": (("align",), retrievals),
    "reconstruction": (("autoencoder",), reconstructions),
    "agreement": (("diffuse",), agreements),
    "what texts tell": (("autoencoder", "diffuse"), tellings),
    "benefit of partners": (("guide",), benefits),
    "coherence": (("align", "guide"), coherences),
    "translation": (("guide",), translations),
    "pictures": (("autoencoder",), pictures),
}


def measure(course: Course) -> None:
    """Every measure whose phases have run, each once."""
    if not course.cohort.test.records:
        return
    subjects = Subjects(course.bundle, course.cohort)
    for name, (phases, lines) in MEASURES.items():
        if set(phases) <= set(course.run.config.phases.run):
            course.stage("measure", name, [], partial(lines, subjects))
