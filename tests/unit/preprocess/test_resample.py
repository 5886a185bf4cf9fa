from math import gcd

import numpy as np
import pytest

from core.preprocess.spatial import resample, weights


@pytest.mark.parametrize(("size", "num"), [(12, 5), (5, 12), (7, 7), (1, 4), (9, 1), (512, 64)])
def test_rows_sum_to_1_inside(size, num):
    matrix = weights(size, 0, size, num)
    assert matrix.shape == (num, size)
    assert np.allclose(matrix.sum(1), 1)
    assert (matrix >= 0).all()


def test_averages_are_exact():
    data = np.arange(12.0)[None]
    assert np.allclose(resample(data, 1, 0, 12, 4), data.reshape(1, 4, 3).mean(-1))
    assert np.isclose(resample(data, 1, 0, 12, 5).mean(), data.mean())


def test_linear_upwards_keeps_a_ramp_inside():
    data = np.arange(6.0)[None]
    fine = resample(data, 1, 0, 6, 12)[0]
    centres = (np.arange(12) + 0.5) / 2 - 0.5
    assert np.allclose(fine[1:-1], centres[1:-1])


def test_beyond_the_data_is_fill():
    data = np.ones((1, 4))
    assert resample(data, 1, -4, 8, 3, fill=-1)[0].tolist() == [-1, 1, -1]
    assert resample(data, 1, -2, 6, 8, fill=-1)[0].tolist() == [-1, -1, 1, 1, 1, 1, -1, -1]
    # Half inside, half outside.
    assert resample(data, 1, -1, 5, 3, fill=-1)[0].tolist() == [0, 1, 0]


def test_nearest_keeps_labels():
    data = np.random.default_rng(0).integers(0, 5, (1, 11, 7)).astype(np.float32)
    for num in (3, 7, 16):
        assert set(np.unique(resample(data, 1, -1.3, 12, num, how="nearest"))) <= set(range(5))


@pytest.mark.parametrize(
    ("size", "num"), [(48, 72), (72, 48), (96, 48), (96, 12), (96, 72), (72, 96), (80, 128), (128, 80)]
)
@pytest.mark.parametrize("label", [1.0, 0.0])
def test_labels_neither_move_nor_grow(size, num, label):
    """Every place of an object, and of a hole, once: the mean error of either edge is 0, with ties and without."""
    scale, width = size / num, 14
    errors = []
    for first in range(8, 8 + 2 * size // gcd(size, num)):  # a tie of either turn
        data = np.full((1, size), 1 - label, np.float32)
        data[0, first : first + width] = label
        result = np.flatnonzero(resample(data, 1, 0, size, num, 1 - label, "nearest")[0] == label)
        errors.append((result[0] * scale - first, (result[-1] + 1) * scale - (first + width)))
    assert np.abs(np.mean(errors, 0)).max() < 1e-9
    assert np.abs(errors).max() <= max(0.5, scale / 2) + 0.5 + 1e-9


def test_at_a_tie_nothing_two_pixels_wide_is_lost():
    for first in range(30):
        data = np.zeros((1, 32), np.float32)
        data[0, first : first + 2] = 3
        assert (resample(data, 1, 0, 32, 16, how="nearest") == 3).sum() == 1


def test_rounding_does_not_break_a_tie():
    data = np.arange(16.0)[None]
    result = [resample(data, 1, shift, 16 + shift, 8, how="nearest").tolist() for shift in (-1e-9, 0, 1e-9)]
    assert result[0] == result[1] == result[2]


def test_identity_returns_the_data():
    data = np.ones((1, 4, 5))
    assert resample(data, 2, 0, 5, 5) is data
