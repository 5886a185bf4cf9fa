"""Bootstrap intervals against closed forms, scipy's bootstrap and hand-worked cases."""

import numpy as np
import pytest
import torch
from scipy import stats

import core  # noqa: F401
from core.evaluate.bootstrap import bootstrap, mean_interval, paired_interval

VALUES = np.random.default_rng(0).normal(3.0, 2.0, 200)


def test_the_interval_of_a_mean_is_that_of_the_normal_law():
    found = mean_interval(VALUES, resamples=4000)
    error = VALUES.std() / np.sqrt(len(VALUES))
    assert found.value == pytest.approx(VALUES.mean())
    assert found.low == pytest.approx(VALUES.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(VALUES.mean() + 1.96 * error, abs=0.1 * error)


def test_a_statistic_agrees_with_scipys_percentile_bootstrap():
    skewed = np.exp(VALUES / 2)
    theirs = stats.bootstrap(
        (skewed,), np.median, n_resamples=2000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bootstrap(lambda rows: float(np.median(skewed[rows])), 200, resamples=2000)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * width)
    narrower = bootstrap(lambda rows: float(np.median(skewed[rows])), 200, level=0.5)
    assert ours.low < narrower.low < narrower.high < ours.high


def test_the_fast_mean_and_the_general_bootstrap_draw_the_same():
    patients = np.random.default_rng(1).integers(0, 40, 200).tolist()
    fast = mean_interval(VALUES, patients, seed=5)
    general = bootstrap(lambda rows: float(VALUES[rows].mean()), 200, patients=patients, seed=5)
    assert (fast.value, fast.low, fast.high) == pytest.approx((general.value, general.low, general.high))
    assert fast.low != pytest.approx(mean_interval(VALUES, patients, seed=6).low, abs=1e-9)


def test_samples_of_one_patient_are_not_independent():
    """Ten equal samples per patient are no more than one: the width stays, where it would shrink by root 10."""
    patients = np.repeat(np.arange(200), 10)
    once, ten = mean_interval(VALUES), mean_interval(np.repeat(VALUES, 10), patients.tolist())
    naive = mean_interval(np.repeat(VALUES, 10))
    assert (ten.low, ten.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low == pytest.approx((once.high - once.low) / np.sqrt(10), rel=0.15)


def test_resamples_without_a_value_are_left_out_and_counted():
    """One positive among 10: no resample of the share (9/10)^10 has any."""
    positive = np.zeros(10)
    positive[3] = 1
    found = bootstrap(lambda rows: 1.0 if positive[rows].any() else float("nan"), 10, resamples=2000)
    assert found.left_out / 2000 == pytest.approx(0.9**10, abs=0.04)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_unknown_values_are_left_out_of_a_mean():
    found = mean_interval([1.0, np.nan, 3.0], resamples=500)
    assert found.value == 2.0
    assert (found.low, found.high) == (1.0, 3.0)
    assert found.left_out / 500 == pytest.approx((1 / 3) ** 3, abs=0.03), "resamples of the unknown one alone"
    assert np.isnan(mean_interval([np.nan, np.nan]).value)


def test_a_paired_interval_takes_away_what_both_share():
    first, second = VALUES, VALUES + 0.1 + 0.01 * np.random.default_rng(2).normal(size=200)
    found = paired_interval(second - first)
    assert found.excludes_zero
    assert found.low > 0.09
    assert not paired_interval(VALUES - VALUES.mean()).excludes_zero


def test_it_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(3).normal(size=(300, 60))
    covered = [found.low <= 0 <= found.high for found in (mean_interval(row, level=0.8) for row in draws)]
    assert np.mean(covered) == pytest.approx(0.8, abs=0.07)


def test_torchs_own_random_stream_is_left_alone():
    before = torch.get_rng_state()
    mean_interval(VALUES)
    assert torch.equal(before, torch.get_rng_state())


def test_one_patient_per_sample():
    with pytest.raises(ValueError, match="found 2 for 3 samples"):
        mean_interval([1.0, 2.0, 3.0], ["a", "b"])
