import numpy as np
import pytest

from core.preprocess.resample import resample, weights


@pytest.mark.parametrize(("size", "num"), [(12, 5), (5, 12), (7, 7), (1, 4), (9, 1), (512, 64)])
@pytest.mark.parametrize("how", ["area", "nearest"])
def test_rows_sum_to_one_inside(size, num, how):
    matrix = weights(size, 0, size, num, how)
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


def test_identity_returns_the_data():
    data = np.ones((1, 4, 5))
    assert resample(data, 2, 0, 5, 5) is data
