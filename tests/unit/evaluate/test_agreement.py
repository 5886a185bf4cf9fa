"""Agreement and its ratio to reconstructions against closed forms and hand-worked cases."""

import numpy as np
import pytest
from scipy.stats import norm

from core.errors import UserError
from core.evaluate.agreement import agreement, agreement_ratio
from core.evaluate.classification import aurocs
from tests.unit.evaluate.scores import cohort

NAN = float("nan")


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
