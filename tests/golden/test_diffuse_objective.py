"""E5, E6, E9 and E10 against diffusers and closed forms."""

from collections import Counter

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from core.diffuse.objective import draw_levels, draw_prompts, draw_subset, guided, min_snr_weight, noise_loss, noised
from core.nn import NUM_TIMESTEPS, alpha_sigma, log_snr_of_timestep


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_forward_process_is_diffusers_scaled_linear():
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.0120, beta_schedule="scaled_linear")
    z, noise = torch.randn(5, 4, 3, 3, generator=generator()), torch.randn(5, 4, 3, 3, generator=generator(1))
    timesteps = torch.tensor([0, 1, 250, 700, 999])
    expected = scheduler.add_noise(z, noise, timesteps)
    assert torch.allclose(noised(z, log_snr_of_timestep(timesteps), noise), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 6), (3, 2, 5), (3, 2, 4, 4), (3, 2, 4, 4, 4)])
def test_forward_process_preserves_variance_in_every_shape(shape):
    z, noise = torch.zeros(shape), torch.ones(shape)
    level = torch.tensor([-4.0, 0.0, 4.0])
    alpha, sigma = alpha_sigma(level)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(3))
    assert torch.allclose(noised(z, level, noise).flatten(1)[:, 0], sigma)
    assert torch.allclose(noised(noise, level, z).flatten(1)[:, 0], alpha)


def test_levels_are_those_of_uniform_timesteps():
    levels = draw_levels(20000, generator())
    table = log_snr_of_timestep(torch.arange(NUM_TIMESTEPS))
    assert levels.dtype == torch.float32
    assert set(levels.tolist()) <= set(table.tolist())
    below = float((levels < table[500]).float().mean())
    assert below == pytest.approx(0.499, abs=0.02), "half of the steps are noisier than the middle one"


def test_objective_is_the_mean_square():
    noise = torch.randn(2, 3, generator=generator())
    assert float(noise_loss(noise, noise + 2)) == pytest.approx(4.0)
    assert float(noise_loss(noise, noise)) == 0.0


def test_min_snr_weights_are_those_of_diffusers():
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.0120, beta_schedule="scaled_linear")
    timesteps = torch.tensor([0, 1, 250, 700, 999])
    snr = compute_snr(scheduler, timesteps)
    expected = torch.stack([snr, torch.full_like(snr, 5.0)]).min(0).values / snr
    torch.testing.assert_close(min_snr_weight(log_snr_of_timestep(timesteps), 5.0), expected, rtol=1e-3, atol=0)


def test_a_weighted_objective_weighs_samples():
    noise = torch.randn(2, 3, 4, generator=generator())
    off = torch.tensor([1.0, 2.0]).view(2, 1, 1)
    assert float(noise_loss(noise, noise + off, torch.tensor([0.5, 0.25]))) == pytest.approx((0.5 + 1.0) / 2)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [("single", {("a",), ("b",)}), ("all", {("a", "b")}), ("subsets", {("a",), ("b",), ("a", "b")})],
)
def test_which_prompts_are_drawn(sampling, expected):
    draws = generator()
    assert {draw_prompts(("a", "b"), sampling, draws) for _ in range(50)} == expected
    assert draw_prompts((), sampling, draws) == ()


def test_guidance_at_scale_one_is_the_conditional_and_at_zero_the_unconditional():
    null, conditional = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])
    assert torch.equal(guided(null, conditional, 1.0), conditional)
    assert torch.equal(guided(null, conditional, 0.0), null)
    assert torch.equal(guided(null, conditional, 7.5), torch.tensor([16.0, -5.5]))


def test_all_subsets_are_drawn_equally_often():
    draws = generator()
    counts = Counter(draw_subset(("a", "b", "c"), draws) for _ in range(7000))
    assert len(counts) == 7
    assert () not in counts
    assert all(abs(count - 1000) < 150 for count in counts.values()), counts
