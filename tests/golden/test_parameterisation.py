"""E10: what each prediction means, in closed form, at every level that there is."""

import math

import pytest
import torch

from core.nn import Parameterisation, alpha_sigma

OBJECTIVES = ["epsilon", "v", "clean", "rectified_flow"]
LEVELS = torch.tensor([-15.0, -5.36, -1.0, 0.0, 2.0, 7.0])


def pair(seed=0, rows=6):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(2, rows, 3, 4, generator=draws).unbind()


def spread(factor):
    return factor.view(-1, 1, 1)


def test_targets_are_those_of_the_literature():
    clean, noise = pair()
    alpha, sigma = (spread(factor) for factor in alpha_sigma(LEVELS))
    found = {name: Parameterisation(name).target(clean, noise, LEVELS) for name in OBJECTIVES}
    assert torch.equal(found["epsilon"], noise)
    assert torch.equal(found["clean"], clean)
    assert torch.equal(found["v"], alpha * noise - sigma * clean)
    assert torch.equal(found["rectified_flow"], noise - clean)


def test_the_velocity_is_that_of_diffusers():
    from diffusers import DDPMScheduler

    from core.nn import log_snr_of_timestep

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.0120, beta_schedule="scaled_linear")
    clean, noise = pair(rows=3)
    timesteps = torch.tensor([3, 500, 999])
    expected = scheduler.get_velocity(clean, noise, timesteps)
    found = Parameterisation("v").target(clean, noise, log_snr_of_timestep(timesteps))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_clean_latent_and_noise_come_back(objective):
    """In float64, where no level loses digits."""
    clean, noise = (part.double() for part in pair())
    alpha, sigma = (spread(factor) for factor in alpha_sigma(LEVELS.double()))
    z, chosen = alpha * clean + sigma * noise, Parameterisation(objective)
    prediction = chosen.target(clean, noise, LEVELS.double())
    torch.testing.assert_close(chosen.to_clean(z, prediction, LEVELS.double()), clean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(chosen.to_noise(z, prediction, LEVELS.double()), noise, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_two_estimates_make_up_the_latent(objective):
    """For any prediction, right or wrong."""
    z, prediction = pair(3)
    alpha, sigma = (spread(factor) for factor in alpha_sigma(LEVELS))
    chosen = Parameterisation(objective)
    clean, noise = chosen.to_clean(z, prediction, LEVELS), chosen.to_noise(z, prediction, LEVELS)
    torch.testing.assert_close(alpha * clean + sigma * noise, z, rtol=1e-4, atol=1e-4)


def test_the_slope_of_rectified_flow_points_from_the_latent_to_its_clean_estimate():
    """``x = y - s u`` on the path ``y = (1 - s) x + s noise``, which is ``z / (alpha + sigma)``."""
    z, u = pair(4)
    alpha, sigma = (spread(factor) for factor in alpha_sigma(LEVELS))
    y, s = z / (alpha + sigma), sigma / (alpha + sigma)
    chosen = Parameterisation("rectified_flow")
    torch.testing.assert_close(chosen.to_clean(z, u, LEVELS), y - s * u, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(chosen.to_noise(z, u, LEVELS), y + (1 - s) * u, rtol=1e-5, atol=1e-5)


def test_pure_noise_says_nothing_of_the_data_and_all_of_the_noise():
    z, prediction = pair(5, 1)
    level = torch.tensor([-torch.inf])
    expected = {"v": -prediction, "clean": prediction, "rectified_flow": z - prediction}
    for objective, clean in expected.items():
        chosen = Parameterisation(objective)
        assert torch.equal(chosen.to_clean(z, prediction, level), clean), objective
        assert torch.equal(chosen.to_noise(z, prediction, level), z), objective
        assert chosen.sees_pure_noise
    assert not Parameterisation("epsilon").sees_pure_noise


def test_a_clean_latent_is_its_own_estimate():
    z, prediction = pair(6, 1)
    level = torch.tensor([torch.inf])
    for objective in ("epsilon", "v", "rectified_flow"):
        assert torch.equal(Parameterisation(objective).to_clean(z, prediction, level), z)


def test_one_level_serves_a_batch():
    z, prediction = pair(7)
    for objective in OBJECTIVES:
        chosen = Parameterisation(objective)
        for level in (torch.tensor(0.7), torch.tensor(0.7, dtype=torch.float64)):
            each = chosen.to_clean(z, prediction, torch.full((len(z),), 0.7))
            assert chosen.to_clean(z, prediction, level).dtype == torch.float32
            torch.testing.assert_close(chosen.to_clean(z, prediction, level), each)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("clean", lambda snr, gamma: min(snr, gamma)),
        ("epsilon", lambda snr, gamma: min(snr, gamma) / snr),
        ("v", lambda snr, gamma: min(snr, gamma) / (snr + 1)),
        ("rectified_flow", lambda snr, gamma: min(snr, gamma) / (math.sqrt(snr) + 1) ** 2),
    ],
)
def test_min_snr_weights_in_closed_form(objective, expected):
    level = torch.tensor([-6.0, -1.0, 0.5, 3.0, 7.0])
    found = Parameterisation(objective).weight(level, 5.0)
    assert found.tolist() == pytest.approx([expected(math.exp(one), 5.0) for one in level.tolist()], rel=1e-4)
