"""What limits reports that look for their X-ray: the image, the number of patients, or the shared space?

    python benchmarks/run.py retrieval_limits

Needs the finished run of `main_job_long`. A reader who knows a study's labels ranks the test images by the likelihood
that a judge gives to them, as the practical ceiling of its table does; the judge has learned from all training
patients, or from those alone whose images alignment saw. Beside it, the shared space ranks them by the report.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.cases.agreement_by_grade import RUN, subjects_of
from core.data.studies import Studies
from core.evaluate.agreement import found_by_labels
from core.evaluate.finding_classifier import judge_scores, train_judge
from core.evaluate.retrieval import Retrieval, found_in_shared_space
from core.evaluate.test_set import Subjects

CENTRE, AT, SEEDS = "text", 5, 3


def measure() -> list[dict[str, Any]]:
    """A row per modality and reader: R@5 among the test patients, its interval, and how many patients taught it."""
    subjects = subjects_of(RUN)
    cohort = subjects.course.cohort
    taught = {"all training patients": cohort.whole, "patients seen in alignment": cohort.training}
    rows = []
    for name in subjects.grids:
        if CENTRE not in subjects.run.prompt_sources(name):
            continue
        for title, studies in taught.items():
            rows += _judges(subjects, name, title, studies)
        places = subjects.places(CENTRE, name, most=len(subjects.studies.records))
        found = found_in_shared_space(subjects, CENTRE, name, places)
        rows.append({"modality": name, "reader": "shared space, by the report"} | _told(found))
    return rows


def _judges(subjects: Subjects, name: str, title: str, studies: Studies) -> list[dict[str, Any]]:
    """Several judges of the same patients: how much of a difference is the judge's own chance?"""
    places = [place for place in studies.indices_with(name) if studies.records[place].labels]
    data = subjects.data(name, places, studies)
    labels = torch.from_numpy(subjects.labels(studies, places)).float()
    everyone = subjects.studies.indices_with(name)
    images = subjects.data(name, everyone)
    rows = []
    for seed in range(SEEDS):
        judge = train_judge(data, labels, seed=seed, epochs=_epochs(subjects, len(places)))
        found = found_by_labels(subjects, everyone, judge_scores(judge, images).numpy())
        what = {"modality": name, "reader": f"judge of the labels of {title}, seed {seed}", "patients": len(places)}
        rows.append(what | _told(found))
    return rows


def _epochs(subjects: Subjects, num: int) -> int:
    """As many steps for few patients as for all, so that only what there is to learn from differs."""
    every = sum(bool(record.labels) for record in subjects.course.cohort.whole.records)
    return round(subjects.settings.judge_epochs * every / num)


def _told(found: Retrieval) -> dict[str, Any]:
    recall = found.recall[AT]
    numbers = {"recall": recall.value, "low": recall.low, "high": recall.high, "median_rank": found.median_rank.value}
    return {name: round(value, 3) for name, value in numbers.items()}
