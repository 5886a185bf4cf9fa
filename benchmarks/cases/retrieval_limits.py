"""What limits reports that look for their X-ray: the image, the number of patients, or the shared space?

    python benchmarks/run.py retrieval_limits

Needs the finished run of `main_job_long`. A finding classifier ranks the test images by the likelihood of a study's
labels, as for the label-based upper bound of its table. It is trained on all training patients, or only on those whose
images alignment saw. For comparison, the shared space ranks the images by the report.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.cases.agreement_by_grade import RUN, test_set_of
from core.data.studies import Studies
from core.evaluate.agreement import retrieve_by_labels
from core.evaluate.finding_classifier import classifier_scores, train_classifier
from core.evaluate.retrieval import Retrieval, retrieve_in_shared_space
from core.evaluate.test_set import TestSet

CENTRE, AT, SEEDS = "text", 5, 3


def measure() -> list[dict[str, Any]]:
    """Return a row per modality and reader: R@5 among the test patients, its interval, and the training patients."""
    test_set = test_set_of(RUN)
    cohort = test_set.cohort
    trained_on = {"all training patients": cohort.whole, "patients seen in alignment": cohort.training}
    rows = []
    for name in test_set.grids:
        if CENTRE not in test_set.run.prompt_sources(name):
            continue
        for title, studies in trained_on.items():
            rows += _classifiers(test_set, name, title, studies)
        indices = test_set.indices(CENTRE, name, most=len(test_set.studies.records))
        result = retrieve_in_shared_space(test_set, CENTRE, name, indices)
        rows.append({"modality": name, "reader": "shared space, by the report"} | _numbers(result))
    return rows


def _classifiers(test_set: TestSet, name: str, title: str, studies: Studies) -> list[dict[str, Any]]:
    """Return rows of several classifiers of the same patients, which show how much of a difference is chance."""
    indices = [index for index in studies.indices_with(name) if studies.records[index].labels]
    data = test_set.data(name, indices, studies)
    labels = torch.from_numpy(test_set.labels(studies, indices)).float()
    everyone = test_set.studies.indices_with(name)
    images = test_set.data(name, everyone)
    rows = []
    for seed in range(SEEDS):
        classifier = train_classifier(data, labels, seed=seed, epochs=_epochs(test_set, len(indices)))
        result = retrieve_by_labels(test_set, everyone, classifier_scores(classifier, images).numpy())
        reader = f"classifier of the labels of {title}, seed {seed}"
        rows.append({"modality": name, "reader": reader, "patients": len(indices)} | _numbers(result))
    return rows


def _epochs(test_set: TestSet, num: int) -> int:
    """Return the epochs that take as many steps for few patients as for all, so that only the data differ."""
    every = sum(bool(record.labels) for record in test_set.cohort.whole.records)
    return round(test_set.settings.judge_epochs * every / num)


def _numbers(result: Retrieval) -> dict[str, Any]:
    recall = result.recall[AT]
    numbers = {"recall": recall.value, "low": recall.low, "high": recall.high, "median_rank": result.median_rank.value}
    return {name: round(value, 3) for name, value in numbers.items()}
