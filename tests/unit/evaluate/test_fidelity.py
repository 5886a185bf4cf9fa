"""Distances between sets of features: golden tests against other implementations, and planted sets."""

import numpy as np
import pytest
import torch
from scipy import linalg
from torchmetrics.image.kid import poly_mmd

from core.evaluate.images.fidelity import (
    fidelity_rows,
    frechet_distance,
    frechet_interval,
    kid,
    kid_interval,
    neighbour_rates,
    polynomial_kernel,
)
from tests.unit.evaluate.fake_images import FakeTestSet, discs, spec

DRAWS = np.random.default_rng(0)
MIX = DRAWS.normal(size=(6, 6))
FIRST, SECOND = DRAWS.normal(size=(80, 6)) @ MIX, DRAWS.normal(size=(60, 6)) @ MIX.T + 0.5


def test_frechet_equals_the_formula_with_a_matrix_square_root():
    covariances = [np.cov(features, rowvar=False) for features in (FIRST, SECOND)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    gap = FIRST.mean(0) - SECOND.mean(0)
    expected = gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(FIRST, SECOND) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(SECOND, FIRST) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_shifted_and_scaled_sets_in_closed_form():
    assert frechet_distance(FIRST, FIRST) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(FIRST, FIRST + 2) == pytest.approx(6 * 4)
    total = np.trace(np.cov(FIRST, rowvar=False))
    assert frechet_distance(FIRST, 3 * (FIRST - FIRST.mean(0)) + FIRST.mean(0)) == pytest.approx(4 * total)


def test_frechet_of_fewer_samples_than_dimensions_is_finite():
    few = DRAWS.normal(size=(4, 30))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(few, few + 1) == pytest.approx(30, abs=1e-4)


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_hold_the_value_and_tell_equal_sets_from_shifted_ones(paired):
    first, second = DRAWS.normal(size=(2, 60, 4))
    patients = list(range(60)) if paired else None
    for interval_of in (frechet_interval, kid_interval):
        equal, shifted = (interval_of(first, second + shift, patients=patients) for shift in (0.0, 1.5))
        assert shifted.low <= shifted.value <= shifted.high
        assert equal.value < shifted.low
    assert kid_interval(first, second, patients=patients).low < 0 < kid_interval(first, second, patients=patients).high


def test_kid_equals_torchmetrics():
    same = [torch.from_numpy(polynomial_kernel(a, b)) for a, b in ((FIRST, FIRST), (FIRST, SECOND), (SECOND, SECOND))]
    expected = kid_by_sums(*(kernel.numpy() for kernel in same))
    assert kid(FIRST, SECOND) == pytest.approx(expected, rel=1e-9)
    equal_size = poly_mmd(torch.from_numpy(FIRST[:60]), torch.from_numpy(SECOND))
    assert kid(FIRST[:60], SECOND) == pytest.approx(float(equal_size), rel=1e-6)


def kid_by_sums(first, between, second):
    """Equation 4 of Bińkowski et al., by loops over pairs."""
    within = [
        np.mean([kernel[i, j] for i in range(len(kernel)) for j in range(len(kernel)) if i != j])
        for kernel in (first, second)
    ]
    return sum(within) - 2 * between.mean()


def test_kid_is_unbiased():
    draws = np.random.default_rng(1)
    values = [kid(*draws.normal(size=(2, 10, 3))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20


def test_neighbour_rates_by_brute_force():
    real, made, k = DRAWS.normal(size=(30, 2)), 0.7 * DRAWS.normal(size=(25, 2)) + 0.4, 5

    def radius(features, row):
        return sorted(np.linalg.norm(features - features[row], axis=1))[k]

    rates = neighbour_rates(real, made, k=k)
    inside = [[np.linalg.norm(a - b) < radius(real, row) for b in made] for row, a in enumerate(real)]
    assert rates.coverage.tolist() == [float(any(row)) for row in inside]
    assert rates.precision.tolist() == [float(any(row[j] for row in inside)) for j in range(len(made))]
    assert rates.density == pytest.approx([sum(row[j] for row in inside) / k for j in range(len(made))])
    around = [[np.linalg.norm(a - b) < radius(made, column) for a in real] for column, b in enumerate(made)]
    assert rates.recall.tolist() == [float(any(column[i] for column in around)) for i in range(len(real))]


def test_a_model_that_repeats_one_image_is_precise_and_covers_nothing():
    real = DRAWS.normal(size=(100, 3))
    mean = {what: values.mean() for what, values in vars(neighbour_rates(real, np.tile(real[:1], (100, 1)))).items()}
    assert mean["precision"] == 1.0
    assert mean["coverage"] < 0.15
    assert mean["recall"] == 0.0
    all_real = neighbour_rates(real, real)
    assert all_real.coverage.mean() == all_real.recall.mean() == all_real.precision.mean() == 1.0


def test_shifted_sets_are_neither_precise_nor_covered():
    real = DRAWS.normal(size=(50, 3))
    rates = neighbour_rates(real, real + 100)
    assert not any(values.any() for values in vars(rates).values())


class Featured(FakeTestSet):
    """The features of an image are its brightness and its contrast. Half of the studies prompt, all are real."""

    def __init__(self, generated):
        levels = np.random.default_rng(2).uniform(-0.2, 0.2, 80)
        real = discs(np.full(80, 12)) + torch.from_numpy(levels).float().view(-1, 1, 1, 1)
        super().__init__({"ct": spec()}, {"ct": real}, ways={"generated, prompted": {"ct": generated(real)}})
        self.joint_indices = list(range(40))

    def can_classify(self, name):
        return True

    def features(self, name, data):
        images = data.double().flatten(1)
        return torch.stack([images.mean(1), images.std(1)], 1).numpy()


def test_rows_of_real_draws_and_of_images_that_are_too_dark():
    same = {row.what: row for row in fidelity_rows(Featured(lambda real: real[40:]))}
    dark = {row.what: row for row in fidelity_rows(Featured(lambda real: real[40:] - 0.5))}
    name = "ct: Fréchet distance, generated, prompted"
    other = same["ct: Fréchet distance, other real images"]
    assert same[name].value == pytest.approx(other.value)
    assert dark[name].value > 0.2 > 20 * same[name].value
    assert dark[name].key == "frechet/generated, prompted/ct"
    assert dark["ct: coverage, generated, prompted"].value == 0.0
    assert same["ct: coverage, generated, prompted"].value > 0.8
    assert same["ct: coverage, reconstructed"].value == 1.0  # reconstructions are the images themselves
    assert same["ct: KID, generated, prompted"].value < dark["ct: KID, generated, prompted"].low
    assert other.reference == ""


def test_fewer_images_than_features_are_stated():
    test_set = Featured(lambda real: real[40:])
    test_set.features = lambda name, data: np.random.default_rng(3).normal(size=(len(data), 64))
    row = next(iter(fidelity_rows(test_set)))
    assert "40 images, fewer than its 64 dimensions" in row.reference
