"""PSNR, SSIM and absolute error against their formulas; what is preserved of a text, by hand."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

import core  # noqa: F401
from core.errors import UserError
from core.evaluate.reconstruction import (
    exact_match_rate,
    finding_preservation,
    is_preserved,
    reconstruction,
    reconstruction_errors,
)

torch.set_num_threads(1)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def ssim_by_formula(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004: a Gaussian window of 11 points and deviation 1.5, mirrored borders, constants for a range of 2."""
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))

    def window(image: np.ndarray) -> np.ndarray:
        for axis in range(image.ndim):
            image = correlate1d(image, weights / weights.sum(), axis=axis, mode="mirror")
        return image

    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mx, my = window(x), window(y)
    vx, vy, cov = window(x * x) - mx**2, window(y * y) - my**2, window(x * y) - mx * my
    return float((((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


@pytest.mark.parametrize("shape", [(3, 1, 20, 14), (2, 1, 9, 10, 12)], ids=["2-D", "3-D"])
def test_each_sample_by_formula(shape):
    real = images(*shape)
    made = (real + 0.3 * images(*shape, seed=1)).clamp(-1, 1)
    found = reconstruction_errors(real, made, batch=2)
    for row in range(len(real)):
        x, y = (image[row, 0].double().numpy() for image in (real, made))
        assert found["psnr_db"][row] == pytest.approx(10 * np.log10(2**2 / ((x - y) ** 2).mean()))
        assert found["mae"][row] == pytest.approx(np.abs(x - y).mean())
        assert found["ssim"][row] == pytest.approx(ssim_by_formula(x, y), abs=1e-6)


def test_a_constant_shift_is_20_db_at_a_tenth_of_the_range():
    real = images(4, 1, 16, 16) * 0.5
    found = reconstruction(real, real + 0.2)
    assert found["psnr_db"].value == pytest.approx(20.0, abs=1e-4)
    assert found["mae"].value == pytest.approx(0.2)


def test_one_sample_and_the_same_image():
    found = reconstruction_errors(images(1, 1, 8, 8), images(1, 1, 8, 8))
    assert np.isinf(found["psnr_db"]).tolist() == [True]
    assert found["ssim"].tolist() == [pytest.approx(1.0)]
    assert found["mae"].tolist() == [0.0]


def test_intervals_are_by_patient():
    """Three copies of every patient's image are no more patients."""
    real = images(12, 1, 8, 8)
    made = real * torch.linspace(0.2, 0.9, 12).view(-1, 1, 1, 1)
    once = reconstruction(real, made)["mae"]
    thrice = reconstruction(real.repeat(3, 1, 1, 1), made.repeat(3, 1, 1, 1), patients=list(range(12)) * 3)["mae"]
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))
    assert once.low < once.value < once.high


@pytest.mark.parametrize("shapes", [((2, 1, 8, 8), (2, 1, 8, 9)), ((2, 1, 5, 8), (2, 1, 5, 8)), ((2, 8), (2, 8))])
def test_images_that_cannot_be_compared_are_refused(shapes):
    with pytest.raises(UserError, match="6 points or more"):
        reconstruction_errors(*(torch.zeros(shape) for shape in shapes))


def test_finding_preservation_by_hand():
    before = [{"a": 1, "b": 0}, {"a": 1, "b": 1}, {"a": 0, "b": 0}, {"b": 1}]
    after = [{"a": 1, "b": 0}, {"a": 1, "b": 0}, {"a": 1, "b": 0}, {"b": 1}]
    found = finding_preservation(before, after)
    assert found.whole.value == 0.5
    assert found.recall.value == 3 / 4, "present before: a, a, b, b; the second b is lost"
    assert found.precision.value == 3 / 4, "present after: a, a, a, b; the third a was not there"
    assert found.recall.low < 0.75 < found.recall.high


def test_a_text_is_preserved_whole_or_not():
    assert is_preserved({"a": 1, "b": 0}, {"a": 1, "b": 0, "c": 0}), "another absent finding is no loss"
    assert not is_preserved({"a": 1, "b": 0}, {"a": 1}), "no longer mentioned"
    assert not is_preserved({"a": 1}, {"a": 1, "c": 1}), "invented"
    assert not is_preserved({"a": 1}, {"a": 0})
    assert is_preserved({}, {})


def test_nothing_present_has_no_precision():
    found = finding_preservation([{"a": 0}], [{"a": 0}])
    assert found.whole.value == 1.0
    assert np.isnan([found.precision.value, found.recall.value]).all()
    assert found.recall.left_out == 1000


def test_exact_texts():
    assert exact_match_rate(["no effusion.", "a", "b", "c"], ["no effusion", "a", "b", "c"]).value == 0.75
    with pytest.raises(ValueError, match="shorter"):
        exact_match_rate(["a", "b"], ["a"])
