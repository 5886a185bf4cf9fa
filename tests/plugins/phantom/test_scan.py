"""Scanner physics: the spin-echo equation, noise, Hounsfield units of organs."""

import numpy as np
import pytest

from plugins.phantom.imaging.masks import ORGANS
from plugins.phantom.imaging.scan import WEIGHTINGS, Weighting, rician, spin_echo, tissue_signals
from plugins.phantom.imaging.tissues import TISSUES


def test_spin_echo_equation():
    assert spin_echo(1.0, 1000, 50, Weighting(1e9, 0)) == pytest.approx(1)
    assert spin_echo(0.8, 500, 100, Weighting(500, 100)) == pytest.approx(0.8 * (1 - np.exp(-1)) * np.exp(-1))


def test_contrasts_are_those_of_the_weightings():
    t1, t2, pd = (tissue_signals(WEIGHTINGS[name]) for name in ("mri_t1", "mri_t2", "mri_pd"))
    assert t1["fat"] > t1["liver"] > t1["muscle"] > t1["effusion"] > t1["air"]
    assert t2["effusion"] > t2["spleen"] > t2["fat"] > t2["liver"] > t2["cortical"]
    assert pd["fat"] > pd["lung"] > pd["cortical"]


def test_noise_is_rician():
    sigma, rng = 0.02, np.random.default_rng(0)
    empty = rician(np.zeros((300, 300)), sigma, rng)
    assert empty.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)  # Rayleigh
    strong = rician(np.ones((300, 300)), sigma, rng)
    assert strong.std() == pytest.approx(sigma, rel=0.02)
    assert strong.mean() == pytest.approx(1 + sigma**2 / 2, abs=3e-4)


@pytest.mark.parametrize(("organ", "tissue"), [("lung", "lung"), ("heart", "myocardium"), ("liver", "liver")])
def test_organs_have_published_hounsfield_units(study, organ, tissue):
    values = []
    for patient in range(6):
        result = study(patient)
        inside = result.masks["organs"].data[0] == 1 + ORGANS.index(organ)
        if inside.sum() > 60:
            values.append(float(np.median(result.samples["ct"].data[0][inside])))
    low, high = TISSUES[tissue].hu
    assert all(low - 15 < value < high + 25 for value in values), values
    assert values or organ == "liver"


def test_all_data_are_finite_and_in_range(study):
    samples = study(3).samples
    assert all(np.isfinite(sample.data).all() for name, sample in samples.items() if name != "text")
    assert -1024 <= samples["ct"].data.min() < -900
    assert samples["ct"].data.max() < 2000
    assert all(samples[name].data.min() >= 0 for name in ("mri_t1", "mri_t2", "mri_pd", "xray_frontal"))
