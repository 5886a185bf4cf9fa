"""Do generated images follow the grade in their report, or only the finding?

    python benchmarks/run.py agreement_by_grade

Needs the finished run of `main_job_long`, and uses the test patients, finding classifiers and noise of its table. Each
grade of a finding is measured against all patients without it, averaged over the reliably classified findings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from core.config.installation import load_installation
from core.config.run_config import Flags
from core.engine.distributed import Compute
from core.evaluate.classification import auroc
from core.evaluate.test_set import TestSet, joined, reliable_on_validation
from core.flow.run import start_run
from core.training import TrainingSession
from plugins.phantom.anatomy.findings import GRADES
from plugins.phantom.files import PARAMETERS

RUN = Path("runs/benchmark-main-job-long")
CENTRE, NOT_GRADED = "text", "no_finding"
FEWEST = 3  # patients of a grade, below which a finding has no AUROC of it


def measure() -> list[dict[str, Any]]:
    """Return a row per modality and kind of image: mean AUROC of each grade."""
    test_set = test_set_of(RUN)
    return [
        row for name in test_set.grids if CENTRE in test_set.run.prompt_sources(name) for row in _rows(test_set, name)
    ]


def test_set_of(run: Path) -> TestSet:
    """Return the test studies of a finished run; nothing is trained again."""
    if not (run / "report.html").exists():
        raise SystemExit(f"{run} is not finished: run main_job_long first")
    installation = load_installation()
    registry, catalog = installation.registry, installation.catalog
    config = installation.resolve(Flags(config=run / "config.toml"))
    session = TrainingSession(start_run(config, catalog.modalities), registry, catalog.datasets, Compute(config.device))
    return TestSet(session.bundle, session.cohort)


def _rows(test_set: TestSet, name: str) -> Iterator[dict[str, Any]]:
    indices = test_set.comparable_indices(CENTRE, name)
    if not indices or not (chosen := reliable_on_validation(test_set, name)).any():
        return
    labels, grades = test_set.labels(test_set.studies, indices), [_grades(test_set, index) for index in indices]
    images = {
        "real": test_set.data(name, indices),
        "reconstructed": joined(test_set.reconstructed(name, indices)),
        **{f"generated, guidance {scale:g}": _generated(test_set, name, indices, scale) for scale in _scales(test_set)},
    }
    for way, data in images.items():
        scores, row = test_set.scores(name, data), {"modality": name, "images": way}
        for grade in GRADES:
            values = [
                _auroc(scores[:, column], labels[:, column], [graded.get(finding) == grade for graded in grades])
                for column, finding in enumerate(test_set.findings)
                if chosen[column] and finding != NOT_GRADED
            ]
            row |= {grade: round(float(np.nanmean(values)), 3), f"findings, {grade}": int((~np.isnan(values)).sum())}
        yield row


def _scales(test_set: TestSet) -> list[float]:
    """Return the scale without guidance, and the scale of the run."""
    return sorted({1.0, *(test_set.sampler.scale_of(name) for name in test_set.grids)})


def _generated(test_set: TestSet, name: str, indices: list[int], scale: float) -> Tensor:
    of_the_run = test_set.sampler
    test_set.sampler = of_the_run.model_copy(update={"scale": scale})
    generated = test_set.generated([name], indices, prompts=[CENTRE], couple=False, title=f"{name}, guidance {scale:g}")
    test_set.sampler = of_the_run
    return joined(generated[name])


def _grades(test_set: TestSet, index: int) -> dict[str, str]:
    """Return the findings of a patient with their grades, from the parameters next to the patient's files."""
    record = test_set.studies.records[index]
    parameters = next(iter(record.files.values()))[0].parent / PARAMETERS
    return {finding["name"]: finding["grade"] for finding in json.loads(parameters.read_text())["findings"]}


def _auroc(scores: np.ndarray, labels: np.ndarray, graded: list[bool]) -> float:
    """Return the AUROC of the patients with this grade against those without the finding; NaN where they are few."""
    of_grade = np.array(graded)
    counted = of_grade | (labels == 0)
    return auroc(scores[counted], of_grade[counted].astype(float)) if of_grade.sum() >= FEWEST else float("nan")
