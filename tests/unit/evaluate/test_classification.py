"""AUROC, thresholds and F1 against torchmetrics, closed forms and hand-worked cases."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torchmetrics.functional.classification import binary_auroc, multilabel_f1_score

from core.evaluate.classification import auroc, aurocs, best_thresholds, f1, reliable_findings
from tests.unit.evaluate.scores import cohort

NAN = float("nan")


def test_auroc_by_hand():
    assert auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert auroc([0.5, 0.5, 0.5], [0, 1, 1]) == 0.5, "ties are halved"
    assert auroc([0.1, 0.9, 0.8], [0, NAN, 1]) == 1.0, "the unknown one is left out"
    assert np.isnan(auroc([0.1, 0.2], [0, 0]))
    assert np.isnan(auroc([0.1, 0.2], [1, NAN]))


def test_aurocs_agree_with_torchmetrics():
    scores, labels = cohort(150, (0.0, 0.7, 2.0))
    scores = scores.round(1)
    theirs = [
        float(binary_auroc(torch.from_numpy(scores[:, c]).sigmoid(), torch.from_numpy(labels[:, c]).long()))
        for c in range(3)
    ]
    assert aurocs(scores, labels) == pytest.approx(theirs, abs=1e-6)


def test_aurocs_of_normal_laws():
    """Phi(shift / sqrt 2) for two normal laws of unit deviation; the mean of 20 cohorts is within 3 standard errors."""
    shifts = (0.0, 0.5, 1.5)
    found = np.array([aurocs(*cohort(500, shifts, seed)) for seed in range(20)])
    error = found.std(0) / np.sqrt(20)
    assert (np.abs(found.mean(0) - norm.cdf(np.array(shifts) / np.sqrt(2))) < 3 * error).all()
    assert (error < 0.01).all()


def test_reliable_findings_are_chosen_on_real_images():
    assert reliable_findings(*cohort(2000, (0.2, 2.0))).tolist() == [False, True]
    scores, labels = cohort(50, (1.0, 1.0))
    assert reliable_findings(scores, labels * 0).tolist() == [False, False], "unknown is not reliable"


def test_best_thresholds_by_exhaustion():
    scores, labels = cohort(60, (0.5, 1.0, 2.0))
    scores = scores.round(1)
    labels[::7, 0] = NAN
    for column, threshold in enumerate(best_thresholds(scores, labels)):
        assert counted_f1(scores[:, column] > threshold, labels[:, column]) == pytest.approx(
            max(counted_f1(scores[:, column] >= one, labels[:, column]) for one in scores[:, column])
        )
    assert best_thresholds([[0.1], [0.9]], [[0.0], [NAN]]).tolist() == [float("inf")]


def counted_f1(predicted_findings: np.ndarray, labels: np.ndarray) -> float:
    true = sum(c and label == 1 for c, label in zip(predicted_findings, labels, strict=True))
    false = sum(c and label == 0 for c, label in zip(predicted_findings, labels, strict=True))
    missed = sum(not c and label == 1 for c, label in zip(predicted_findings, labels, strict=True))
    return 2 * true / (2 * true + false + missed)


def test_f1_and_its_averages_by_hand():
    """Finding a: TP 2, FP 1, FN 1 (F1 2/3). b: TP 1, FP 0, FN 0, an unknown call (F1 1). c: never, never called."""
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, NAN, 0], [0, 0, 0], [0, 0, 0]])
    scores = np.array([[1, 1, -1], [1, -1, -1], [-1, 1, -1], [1, -1, -1], [-1, -1, -1]], dtype=float)
    found = f1(scores, labels, [0.0, 0.0, 0.0], ["a", "b", "c"])
    assert found.by_finding["a"].value == pytest.approx(2 / 3)
    assert found.by_finding["b"].value == pytest.approx(1.0)
    assert np.isnan(found.by_finding["c"].value)
    assert found.micro.value == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert found.macro.value == pytest.approx((2 / 3 + 1) / 2), "a finding that never occurs is not averaged"
    assert found.weighted.value == pytest.approx((3 * 2 / 3 + 1 * 1.0) / 4)
    assert found.micro.low < found.micro.value < found.micro.high


def test_f1_agrees_with_torchmetrics_where_every_finding_occurs():
    scores, labels = cohort(90, (0.5, 1.0, 2.0))
    thresholds = best_thresholds(*cohort(300, (0.5, 1.0, 2.0), 1))
    found = f1(scores, labels, thresholds, list("abc"))
    predicted_findings, known = torch.from_numpy(scores > thresholds).long(), torch.from_numpy(labels).long()
    for average in ("micro", "macro", "weighted"):
        theirs = float(multilabel_f1_score(predicted_findings, known, 3, average=average))
        assert getattr(found, average).value == pytest.approx(theirs, abs=1e-6)
        assert getattr(found, average).low < theirs < getattr(found, average).high
    single = multilabel_f1_score(predicted_findings, known, 3, average="none").tolist()
    assert [one.value for one in found.by_finding.values()] == pytest.approx(single, abs=1e-6)
