"""After the last phase: measure once, on the test split, whether generation is faithful and coherent (method 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from core.config.preset import MeasureName, Phase
from core.evaluate.agreement import agreement_rows
from core.evaluate.coherence import coherence_rows
from core.evaluate.coupling import coupling_rows
from core.evaluate.images.anatomy import anatomy_rows
from core.evaluate.images.fidelity import fidelity_rows
from core.evaluate.images.intensity import intensity_rows
from core.evaluate.images.outline import outline_rows
from core.evaluate.images.response import response_rows
from core.evaluate.reconstruction import reconstruction_rows, translation_rows
from core.evaluate.report_findings import report_finding_rows
from core.evaluate.report_quality import report_quality_rows
from core.evaluate.retrieval import retrieval_rows
from core.evaluate.sample_sheets import write_sample_sheets
from core.evaluate.table import MetricRow
from core.evaluate.test_set import TestSet
from core.training.session import TrainingSession

__all__ = ["MEASURES", "measure"]

# Title of the stage, the phases that it needs, and the function that yields its rows.
MEASURES: Mapping[MeasureName, tuple[tuple[Phase, ...], Callable[[TestSet], Iterable[MetricRow]]]] = {
    "shared space": (("align",), retrieval_rows),
    "reconstruction": (("autoencoder",), reconstruction_rows),
    "agreement": (("diffuse",), agreement_rows),
    "report findings": (("autoencoder", "diffuse"), report_finding_rows),
    "report quality": (("autoencoder", "diffuse"), report_quality_rows),
    "coupling": (("guide",), coupling_rows),
    "outline": (("autoencoder", "diffuse"), outline_rows),
    "anatomy": (("autoencoder", "diffuse"), anatomy_rows),
    "fidelity": (("autoencoder", "diffuse"), fidelity_rows),
    "intensity": (("autoencoder", "diffuse"), intensity_rows),
    "response": (("autoencoder", "diffuse"), response_rows),
    "coherence": (("align", "guide"), coherence_rows),
    "translation": (("guide",), translation_rows),
    "sample sheets": (("autoencoder",), write_sample_sheets),
}


def measure(session: TrainingSession) -> None:
    """Run every measure whose phases have run, or those of them that are wanted, in the main process; others wait."""
    if not session.cohort.test.records:
        return
    test_set = TestSet(session.bundle, session.cohort)
    with session.compute.main_alone():
        for name, (phases, rows) in MEASURES.items():
            wanted = name in (session.run.config.training.measure.only or MEASURES)
            if wanted and set(phases) <= set(session.run.config.phases.run):
                measured = partial(rows, test_set) if session.compute.is_main else list
                session.stage("measure", name, [], measured)
