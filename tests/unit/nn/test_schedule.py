"""Noise levels of method E9."""

from __future__ import annotations

import pytest
import torch

from core.nn import (
    NUM_TIMESTEPS,
    NoiseSchedule,
    alpha_sigma,
    log_snr_of_timestep,
    scaled_linear_betas,
    timestep_of_log_snr,
    universal_timestep,
)
from core.nn.schedule import cosine_log_snr, with_zero_terminal_snr


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
    schedule = NoiseSchedule(timesteps=999)
    with torch.inference_mode():
        schedule.log_snr(torch.arange(3))
    level = torch.zeros(2, requires_grad=True)
    schedule.timestep(level).sum().backward()
    assert (level.grad < 0).all()


def test_a_table_made_while_counting_costs_is_not_empty():
    schedule = NoiseSchedule(timesteps=78)
    with torch.device("meta"):
        assert schedule.timestep(torch.zeros(2)).is_meta
    assert schedule.log_snr(torch.tensor([3])).isfinite()


def test_zero_terminal_snr_is_the_rescaling_of_diffusers():
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(
        beta_start=0.00085, beta_end=0.0120, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    )
    level = NoiseSchedule(name="zero_terminal_snr").log_snr(torch.arange(NUM_TIMESTEPS))
    torch.testing.assert_close(alpha_sigma(level)[0].square(), theirs.alphas_cumprod, rtol=0, atol=1e-5)
    assert level[-1] == -torch.inf
    assert level[-2].isfinite()
    torch.testing.assert_close(level[0], log_snr_of_timestep(torch.tensor(0)))
    root = with_zero_terminal_snr(torch.tensor([0.81, 0.49, 0.01])).sqrt()
    torch.testing.assert_close(root, torch.tensor([0.9, 0.9 * 0.6 / 0.8, 0.0]))
    between = NoiseSchedule(name="zero_terminal_snr").log_snr(torch.tensor([998.5]))
    assert level[-2] > between > -torch.inf


def test_other_betas_and_numbers_of_timesteps_are_those_of_diffusers():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(400, beta_start=0.001, beta_end=0.03, beta_schedule="scaled_linear")
    level = NoiseSchedule(timesteps=400, beta_start=0.001, beta_end=0.03).log_snr(torch.arange(400))
    torch.testing.assert_close(alpha_sigma(level)[0].square(), theirs.alphas_cumprod, rtol=0, atol=1e-6)


def test_the_cosine_is_that_of_simple_diffusion():
    """Pseudocode of the appendix of Hoogeboom et al. 2023, with d = 256."""
    time, low, high = torch.linspace(0, 1, 101).double(), -15.0, 15.0
    shift = 2 * torch.tensor(64 / 256).double().log()
    t_min = torch.atan(torch.exp(-0.5 * torch.tensor(high - float(shift)).double()))
    t_max = torch.atan(torch.exp(-0.5 * torch.tensor(low - float(shift)).double()))
    expected = -2 * torch.log(torch.tan(t_min + time * (t_max - t_min))) + shift
    found = NoiseSchedule(name="cosine", shift=float(shift)).log_snr_at(time)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cosine_log_snr(time, float(shift)), expected)
    assert found[[0, -1]].tolist() == pytest.approx([15, -15], abs=1e-3)


def test_the_cosine_without_its_ends_is_that_of_nichol_and_dhariwal():
    time = torch.linspace(0.05, 0.95, 19)
    alpha, sigma = alpha_sigma(NoiseSchedule(name="cosine").log_snr_at(time))
    torch.testing.assert_close(alpha, (time * torch.pi / 2).cos(), rtol=0, atol=2e-3)
    torch.testing.assert_close(sigma, (time * torch.pi / 2).sin(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_linear_path_is_that_of_rectified_flow(shift):
    """``(1 - t) x + t noise``, with the shift of time of Esser et al. Eq. 23, divided to preserve variance."""
    time = torch.tensor([0.01, 0.3, 0.5, 0.9, 0.999, 1.0])
    shifted = shift * time / (1 + (shift - 1) * time)
    alpha, sigma = alpha_sigma(
        NoiseSchedule(name="linear", shift=-2 * torch.tensor(shift).log().item()).log_snr_at(time)
    )
    torch.testing.assert_close(sigma / (alpha + sigma), shifted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["scaled_linear", "zero_terminal_snr", "cosine", "linear"])
def test_every_schedule_falls_from_data_to_noise(name):
    schedule = NoiseSchedule(name=name)
    levels = schedule.log_snr(torch.arange(NUM_TIMESTEPS))
    assert levels.dtype == torch.float32
    assert (levels.diff() < 0).all()
    assert levels[0] > 5
    assert levels[-1] < -5
    by_time = schedule.log_snr_at(torch.linspace(0, 1, 5001))
    assert (by_time[1:] <= by_time[:-1]).all()
    assert not by_time.isnan().any()
    assert by_time[:-1].isfinite().all() or name == "zero_terminal_snr"
    assert by_time[-1] == levels[-1]


def test_a_shift_moves_every_level():
    levels = torch.arange(NUM_TIMESTEPS)
    for name in ("scaled_linear", "linear"):
        plain, shifted = (NoiseSchedule(name=name, shift=shift).log_snr(levels)[:-1] for shift in (0.0, -1.5))
        torch.testing.assert_close(shifted, plain - 1.5, rtol=1e-5, atol=1e-5)


def test_a_universal_timestep_tells_all_levels_apart():
    assert universal_timestep(torch.tensor([torch.inf, 0.0, -torch.inf])).tolist() == pytest.approx([0, 499.5, 999])
    levels = torch.linspace(16, -16, 10_000)
    assert (universal_timestep(levels).diff() > 0).all()
    time = torch.linspace(0.05, 0.95, 19)
    cosine = NoiseSchedule(name="cosine").log_snr_at(time)
    torch.testing.assert_close(universal_timestep(cosine), 999 * time, rtol=0, atol=0.6)
