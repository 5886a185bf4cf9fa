"""AUROC, agreement and F1 against torchmetrics, closed forms and hand-worked cases."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torchmetrics.functional.classification import binary_auroc, multilabel_f1_score

import core  # noqa: F401
from core.errors import UserError
from core.evaluate.agreement import agreement, agreement_ratio
from core.evaluate.classification import auroc, aurocs, best_thresholds, f1, reliable_findings

NAN = float("nan")


def cohort(num: int, shifts: tuple[float, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a classifier for which present and absent are normal laws, this far apart."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((num, len(shifts))) < 0.4).astype(float)
    return rng.normal(size=labels.shape) + labels * np.array(shifts), labels


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


def test_the_interval_has_the_width_of_hanley_and_mcneil():
    scores, labels = cohort(300, (1.0,))
    found = agreement(scores, labels, ["a"]).by_finding["a"]
    a, positives = found.value, labels.sum()
    negatives = 300 - positives
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (positives - 1) * (q1 - a * a) + (negatives - 1) * (q2 - a * a)) / (positives * negatives)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.2)


def test_macro_is_the_mean_over_chosen_findings_with_both_classes():
    scores, labels = cohort(80, (0.5, 1.0, 1.5, 0.0))
    labels[:, 3] = 0.0
    labels[:40, 1] = NAN
    values = aurocs(scores, labels)
    found = agreement(scores, labels, list("abcd"))
    assert np.isnan(found.by_finding["d"].value)
    assert found.macro.value == pytest.approx(values[:3].mean()), "no class without positives drags it to 0"
    some = agreement(scores, labels, list("abcd"), chosen=[True, False, True, True])
    assert some.macro.value == pytest.approx((values[0] + values[2]) / 2)
    assert some.macro.low < some.macro.value < some.macro.high
    none = agreement(scores, labels, list("abcd"), chosen=[False, False, False, True])
    assert np.isnan(none.macro.value)


def test_a_rare_finding_leaves_resamples_out():
    scores, labels = cohort(20, (1.0,))
    labels[:] = 0
    labels[4] = 1
    found = agreement(scores, labels, ["a"])
    assert found.by_finding["a"].left_out / 1000 == pytest.approx(0.95**20, abs=0.05)
    assert found.macro.left_out == found.by_finding["a"].left_out


def test_reliable_findings_are_chosen_on_real_images():
    assert reliable_findings(*cohort(2000, (0.2, 2.0))).tolist() == [False, True]
    scores, labels = cohort(50, (1.0, 1.0))
    assert reliable_findings(scores, labels * 0).tolist() == [False, False], "unknown is not reliable"


def test_the_ratio_of_a_generator_that_reaches_half():
    """By hand: mean AUROC 0.875 and 1.0 over the two reliable findings; the other one does not count."""
    labels = np.array([[0, 0, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]], dtype=float)
    perfect = np.array([[1, 1, 4], [2, 2, 3], [3, 3, 2], [4, 4, 1]], dtype=float)
    made = perfect.copy()
    made[:, 0] = [1, 3, 2, 4]
    found = agreement_ratio(made, perfect, labels, reliable=[True, True, False])
    assert found.value == pytest.approx((0.875 - 0.5) / (1.0 - 0.5))
    same, _ = cohort(100, (1.0, 1.0, 0.0))
    labels = cohort(100, (1.0, 1.0, 0.0))[1]
    itself = agreement_ratio(same, same, labels, reliable=[True, True, False])
    assert (itself.value, itself.low, itself.high) == (1.0, 1.0, 1.0), "one draw of patients serves both sides"


def test_a_reliable_finding_that_nobody_has_is_left_out_of_both():
    scores, labels = cohort(60, (1.0, 1.0))
    rare = np.column_stack([labels, np.zeros(60)])
    three = np.column_stack([scores, scores[:, 0]])
    found = agreement_ratio(three, three, rare, reliable=[True, True, True])
    assert found == agreement_ratio(scores, scores, labels, reliable=[True, True])
    nobody = agreement_ratio(three, three, rare * 0, reliable=[True, True, True])
    assert np.isnan(nobody.value)


def test_the_ratio_covers_the_truth_and_chance_is_zero():
    labels = cohort(800, (1.5, 1.5))[1]
    rng = np.random.default_rng(5)
    kept, made, noise = (rng.normal(size=labels.shape) + shift * labels for shift in (1.5, 0.5, 0.0))
    truth = (norm.cdf(0.5 / np.sqrt(2)) - 0.5) / (norm.cdf(1.5 / np.sqrt(2)) - 0.5)
    found = agreement_ratio(made, kept, labels, reliable=[True, True])
    assert found.low < truth < found.high
    assert not agreement_ratio(noise, kept, labels, reliable=[True, True]).excludes_zero


def test_nothing_reliable_and_wrong_shapes_are_refused():
    scores, labels = cohort(10, (1.0, 1.0))
    with pytest.raises(UserError, match="no finding is classified reliably"):
        agreement_ratio(scores, scores, labels, reliable=[False, False])
    with pytest.raises(ValueError, match="with 3 findings"):
        agreement(scores, labels, list("abc"))


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
