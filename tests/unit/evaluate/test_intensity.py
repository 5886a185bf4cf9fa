"""Spread and level of brightness and of soft tissue, of planted images."""

import numpy as np
import pytest
import torch

from core.evaluate.images.intensity import brightness, intensity_rows, percentile, soft_tissue_hu, spread
from tests.unit.evaluate.fake_images import SIDE, FakeTestSet, discs, spec

CT, MRI = spec("HU", (-1000.0, 1000.0)), spec()
NUM = 40
LEVELS = torch.linspace(-0.1, 0.1, NUM).view(-1, 1, 1, 1)


def test_statistics_in_closed_form():
    ramp = torch.linspace(-1, 1, 201).view(1, 1, 1, -1)
    assert brightness(ramp) == pytest.approx([0.5])
    assert percentile(ramp) == pytest.approx([0.995])
    assert spread(np.array([1.0, 3.0, np.nan])) == pytest.approx(np.sqrt(2))
    assert np.isnan(spread(np.array([1.0, np.nan])))


def test_soft_tissue_is_read_inside_the_body_and_between_its_bounds():
    image = discs([12], inside=0.04)  # 40 HU
    image[0, 0, SIDE // 2, SIDE // 2] = 0.9  # bone
    image[0, 0, 0, 0] = 0.1  # a table of 100 HU outside
    assert soft_tissue_hu(image, CT) == pytest.approx([40.0], abs=1e-3)
    assert np.isnan(soft_tissue_hu(torch.full((1, 1, SIDE, SIDE), -1.0), CT)).all()


def rows_of(factor, shift=0.0):
    real = discs([12] * NUM) + LEVELS
    generated = discs([12] * NUM) + factor * LEVELS + shift
    ways = {"generated, prompted": {"ct": generated, "mri": generated}}
    test_set = FakeTestSet({"ct": CT, "mri": MRI}, {"ct": real, "mri": real}, ways=ways)
    return {row.what: row for row in intensity_rows(test_set)}


@pytest.mark.parametrize("factor", [1.0, 3.0, 0.25])
def test_the_spread_of_brightness_is_that_of_real_images_times_the_planted_factor(factor):
    row = rows_of(factor)["mri: brightness, spread between studies beside real, generated, prompted"]
    assert row.value == pytest.approx(factor, rel=1e-5)
    assert row.low == pytest.approx(row.high) == pytest.approx(factor, rel=1e-5)  # the same patients on both sides
    assert row.key == "spread of brightness/generated, prompted/mri"


def test_a_planted_shift_is_the_mean_difference():
    found = rows_of(1.0, shift=0.06)
    assert found["mri: brightness, mean minus real, generated, prompted"].value == pytest.approx(0.03)
    assert found["ct: 99.5 percentile, mean minus real, generated, prompted"].value == pytest.approx(0.03)
    assert found["ct: soft tissue, HU, mean minus real, generated, prompted"].value == pytest.approx(60, abs=0.1)
    assert found["ct: soft tissue, HU, spread between studies beside real, reconstructed"].value == 1.0
    assert not any("soft tissue" in what for what in found if what.startswith("mri"))


def test_too_few_studies_have_no_spread():
    real = {"mri": discs([12] * 7)}
    assert list(intensity_rows(FakeTestSet({"mri": MRI}, real, ways={"generated, prompted": real}))) == []
