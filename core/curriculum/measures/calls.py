"""Which findings texts and images show, called by the reader of texts and by the judges of images (METHOD 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.curriculum.measures.subjects import Subjects, joined
from core.evaluate.auroc import readable
from core.evaluate.f1 import best_thresholds
from core.types import Batch


def calls(subjects: Subjects, name: str, batches: Sequence[Batch], places: Sequence[int]) -> np.ndarray:
    """``sample finding``: 1 shown, 0 not shown, NaN where nobody can tell; ``places`` are the studies they stand for.

    A text that tells of any finding tells of the absence of all others. Of an image the findings count that its judge
    reads, at thresholds of best F1; both are decided on validation studies.
    """
    nobody = np.full((len(places), len(subjects.findings)), np.nan)
    if subjects.run.parts(name).data.kind == "tokens":
        told = subjects.told(subjects.texts(name, batches), places)
        rows = [[one.get(finding, 0) if one else np.nan for finding in subjects.findings] for one in told]
        return np.array(rows, dtype=np.float64).reshape(nobody.shape)
    if name not in subjects.grids:
        return nobody
    chosen = readable_findings(subjects, name)
    if not chosen.any():
        return nobody
    thresholds = best_thresholds(*_validation(subjects, name))
    return np.where(chosen, subjects.scores(name, joined(batches)) > thresholds, nobody)


def readable_findings(subjects: Subjects, name: str) -> np.ndarray:
    """Bool ``finding``: what the judge reads on validation studies; chosen there, so that the test split stays fair."""
    if not subjects.course.cohort.held_out.having(name) or not subjects.judged(name):
        return np.zeros(len(subjects.findings), dtype=bool)
    return readable(*_validation(subjects, name))


def _validation(subjects: Subjects, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The judge's scores of the validation studies, and their labels; both ``sample finding``."""
    studies = subjects.course.cohort.held_out
    places = studies.having(name)
    return subjects.scores(name, subjects.data(name, places, studies)), subjects.labels(studies, places)
