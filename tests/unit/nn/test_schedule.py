"""Noise levels of method E9."""

from __future__ import annotations

import pytest
import torch

from core.nn import NUM_TIMESTEPS, alpha_sigma, log_snr_of_timestep, scaled_linear_betas, timestep_of_log_snr


@pytest.fixture(scope="module")
def scheduler():
    from diffusers import DDPMScheduler

    return DDPMScheduler(1000, beta_start=0.00085, beta_end=0.0120, beta_schedule="scaled_linear")


def test_betas_are_those_of_diffusers(scheduler):
    betas = scaled_linear_betas()
    assert betas.shape == (NUM_TIMESTEPS,)
    torch.testing.assert_close(betas.float(), scheduler.betas, rtol=0, atol=1e-8)
    assert betas[0].item() == pytest.approx(0.00085)
    assert betas[-1].item() == pytest.approx(0.0120)


def test_signal_and_noise_are_those_of_diffusers(scheduler):
    alpha, sigma = alpha_sigma(log_snr_of_timestep(torch.arange(NUM_TIMESTEPS)))
    torch.testing.assert_close(alpha.square(), scheduler.alphas_cumprod, rtol=0, atol=1e-6)
    torch.testing.assert_close(sigma.square(), 1 - scheduler.alphas_cumprod, rtol=0, atol=1e-6)


def test_variance_is_preserved_at_any_level():
    level = torch.linspace(-40, 40, 201)
    alpha, sigma = alpha_sigma(level)
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(level))
    torch.testing.assert_close(2 * (alpha.double().log() - sigma.double().log()), level.double(), rtol=1e-5, atol=1e-5)


def test_clean_and_pure_noise_are_exact():
    alpha, sigma = alpha_sigma(torch.tensor([torch.inf, -torch.inf]))
    assert alpha.tolist() == [1, 0]
    assert sigma.tolist() == [0, 1]


def test_timestep_and_log_snr_are_inverse():
    timestep = torch.linspace(0, NUM_TIMESTEPS - 1, 4321)
    torch.testing.assert_close(timestep_of_log_snr(log_snr_of_timestep(timestep)), timestep, rtol=0, atol=1e-3)
    level = torch.linspace(-5.3, 7.0, 999)
    torch.testing.assert_close(log_snr_of_timestep(timestep_of_log_snr(level)), level, rtol=0, atol=1e-5)


def test_timestep_falls_steadily_with_log_snr():
    timestep = timestep_of_log_snr(torch.linspace(-5.3, 7.0, 20_000))
    assert (timestep.diff() < 0).all()
    assert timestep.diff().abs().max() < 1


def test_levels_outside_the_table_are_clamped():
    level = torch.tensor([torch.inf, 30.0, -30.0, -torch.inf])
    assert timestep_of_log_snr(level).tolist() == [0, 0, 999, 999]
    ends = log_snr_of_timestep(torch.tensor([-5.0, 2000.0]))
    assert torch.equal(ends, log_snr_of_timestep(torch.tensor([0, 999])))


def test_shape_and_type_are_unchanged():
    assert timestep_of_log_snr(torch.zeros(2, 3, dtype=torch.float64)).shape == (2, 3)
    assert timestep_of_log_snr(torch.zeros(2)).dtype == torch.float32
    assert log_snr_of_timestep(torch.tensor(5)).dtype == torch.float32


def test_a_table_made_in_inference_serves_training():
    from core.nn import schedule as levels

    levels._descending_log_snr.cache_clear()
    with torch.inference_mode():
        log_snr_of_timestep(torch.arange(3))
    level = torch.zeros(2, requires_grad=True)
    timestep_of_log_snr(level).sum().backward()
    assert (level.grad < 0).all()
