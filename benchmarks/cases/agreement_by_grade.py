"""Do generated images follow the grade that their report tells of, or only the finding?

    python benchmarks/run.py agreement_by_grade

Needs the finished run of `main_job_long`. The same test patients, judges and noise as the agreement of its table; each
grade of a finding is measured against all patients without it, averaged over the findings that the judge reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from core.config.registry import load_registry
from core.config.run_config import Flags, load_catalog, resolve
from core.engine.distributed import Compute
from core.evaluate.classification import auroc
from core.evaluate.test_set import Subjects, joined, readable_findings
from core.flow.run import start_run
from core.training import Course
from plugins.phantom.anatomy.findings import GRADES
from plugins.phantom.files import PARAMETERS

RUN = Path("runs/benchmark-main-job-long")
CENTRE, NOT_GRADED = "text", "no_finding"
FEWEST = 3  # patients of a grade, below which a finding has no AUROC of it


def measure() -> list[dict[str, Any]]:
    """A row per modality and kind of image: mean AUROC of each grade."""
    subjects = subjects_of(RUN)
    return [
        row for name in subjects.grids if CENTRE in subjects.run.prompt_sources(name) for row in _of(subjects, name)
    ]


def subjects_of(run: Path) -> Subjects:
    """The test studies of a finished run as it was trained; nothing is trained again."""
    if not (run / "report.html").exists():
        raise SystemExit(f"{run} is not finished: run main_job_long first")
    registry = load_registry()
    catalog = load_catalog(registry)
    config = resolve(registry, catalog.modalities, Flags(config=run / "config.toml"))
    course = Course(start_run(config, catalog.modalities), registry, catalog.datasets, Compute(config.device))
    return Subjects(course.bundle, course.cohort)


def _of(subjects: Subjects, name: str) -> Iterator[dict[str, Any]]:
    places = subjects.enough(CENTRE, name)
    if not places or not (chosen := readable_findings(subjects, name)).any():
        return
    labels, grades = subjects.labels(subjects.studies, places), [_grades(subjects, place) for place in places]
    images = {
        "real": subjects.data(name, places),
        "reconstructed": joined(subjects.reconstructed(name, places)),
        **{f"generated, guidance {scale:g}": _generated(subjects, name, places, scale) for scale in _scales(subjects)},
    }
    for way, data in images.items():
        scores, row = subjects.scores(name, data), {"modality": name, "images": way}
        for grade in GRADES:
            found = [
                _auroc(scores[:, column], labels[:, column], [one.get(finding) == grade for one in grades])
                for column, finding in enumerate(subjects.findings)
                if chosen[column] and finding != NOT_GRADED
            ]
            row |= {grade: round(float(np.nanmean(found)), 3), f"findings, {grade}": int((~np.isnan(found)).sum())}
        yield row


def _scales(subjects: Subjects) -> list[float]:
    """No guidance, and the scale of the run."""
    return sorted({1.0, subjects.sampler.scale})


def _generated(subjects: Subjects, name: str, places: list[int], scale: float) -> Tensor:
    of_the_run = subjects.sampler
    subjects.sampler = of_the_run.model_copy(update={"scale": scale})
    made = subjects.generated([name], places, prompts=[CENTRE], couple=False, title=f"{name}, guidance {scale:g}")
    subjects.sampler = of_the_run
    return joined(made[name])


def _grades(subjects: Subjects, place: int) -> dict[str, str]:
    """Findings of a patient with their grades, from the parameters that lie beside the patient's files."""
    record = subjects.studies.records[place]
    parameters = next(iter(record.files.values()))[0].parent / PARAMETERS
    return {one["name"]: one["grade"] for one in json.loads(parameters.read_text())["findings"]}


def _auroc(scores: np.ndarray, labels: np.ndarray, graded: list[bool]) -> float:
    """Of the patients with this grade against those without the finding; NaN where they are too few."""
    of_grade = np.array(graded)
    counted = of_grade | (labels == 0)
    return auroc(scores[counted], of_grade[counted].astype(float)) if of_grade.sum() >= FEWEST else float("nan")
