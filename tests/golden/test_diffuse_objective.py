"""E5, E6, E9 and E10 against diffusers and closed forms."""

from collections import Counter

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from core.diffuse.objective import Diffusion, draw_prompts, draw_subset, draw_times, noised
from core.nn import NUM_TIMESTEPS, NoiseSchedule, Parameterisation, alpha_sigma, log_snr_of_timestep


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
    levels = Diffusion().draw_levels(20000, generator())
    table = log_snr_of_timestep(torch.arange(NUM_TIMESTEPS))
    assert levels.dtype == torch.float32
    assert set(levels.tolist()) <= set(table.tolist())
    below = float((levels < table[500]).float().mean())
    assert below == pytest.approx(0.499, abs=0.02), "half of the steps are noisier than the middle one"
    assert len(set(levels.tolist())) == NUM_TIMESTEPS


def test_levels_of_a_continuous_schedule_have_its_density():
    """Cosine: with uniform time the angle is uniform, so log-SNR has the density of a hyperbolic secant."""
    levels = Diffusion(schedule=NoiseSchedule(name="cosine")).draw_levels(40000, generator())
    for quantile in (0.1, 0.25, 0.5, 0.9):
        expected = -2 * torch.tensor(torch.pi / 2 * (1 - quantile)).tan().log()
        assert float(levels.quantile(quantile)) == pytest.approx(float(expected), abs=0.06)


def test_logit_normal_times_are_the_sigmoid_of_a_normal_variable():
    times = draw_times(40000, generator(), (-0.5, 0.8))
    logits = times.logit()
    assert float(logits.mean()) == pytest.approx(-0.5, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.8, abs=0.02)
    assert float((logits < -0.5 - 0.8).float().mean()) == pytest.approx(0.1587, abs=0.01)


def test_a_rectified_flow_of_logit_normal_times_has_normal_levels():
    """log-SNR = 2 log((1 - t) / t) = -2 logit t."""
    linear = Diffusion(schedule=NoiseSchedule(name="linear"), logit_normal=(0.5, 1.0))
    levels = linear.draw_levels(40000, generator())
    assert float(levels.mean()) == pytest.approx(-1.0, abs=0.05)
    assert float(levels.std()) == pytest.approx(2.0, abs=0.05)


def test_objective_is_the_mean_square():
    z, noise, level = torch.zeros(2, 3), torch.randn(2, 3, generator=generator()), torch.zeros(2)
    assert float(Diffusion().loss(z, noise, level, noise + 2)) == pytest.approx(4.0)
    assert float(Diffusion().loss(z, noise, level, noise)) == 0.0


OBJECTIVES = ["epsilon", "v", "clean", "rectified_flow"]


@pytest.mark.parametrize(("objective", "theirs"), [("epsilon", 0.0), ("v", 1.0)])
def test_min_snr_weights_are_those_of_diffusers(objective, theirs):
    """diffusers' train scripts: min(SNR, gamma) / SNR for epsilon, / (SNR + 1) for v."""
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.0120, beta_schedule="scaled_linear")
    timesteps = torch.tensor([0, 1, 250, 700, 999])
    snr = compute_snr(scheduler, timesteps)
    expected = torch.stack([snr, torch.full_like(snr, 5.0)]).min(0).values / (snr + theirs)
    found = Parameterisation(objective).weight(log_snr_of_timestep(timesteps), 5.0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_min_snr_is_one_weight_of_the_clean_estimate_in_every_parameterisation(objective):
    """Weight times the squared error of the prediction is min(SNR, gamma) times that of the clean estimate."""
    level = torch.tensor([-6.0, -1.0, 0.0, 2.0, 5.0])
    noise, z = torch.randn(5, 3, generator=generator()), torch.randn(5, 3, generator=generator(1))
    noisy, chosen = noised(z, level, noise), Parameterisation(objective)
    predicted = chosen.target(z, noise, level) + torch.randn(5, 3, generator=generator(2))
    error = (chosen.to_clean(noisy, predicted, level) - z).square().mean(1)
    expected = (error * level.exp().clamp(max=5.0)).mean()
    found = Diffusion(parameterisation=chosen, min_snr_gamma=5.0).loss(z, noise, level, predicted)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES[1:])
def test_the_objective_is_finite_at_pure_noise(objective):
    level = torch.tensor([-torch.inf, 0.0])
    noise, z = torch.randn(2, 3, generator=generator()), torch.randn(2, 3, generator=generator(1))
    loss = Diffusion(parameterisation=Parameterisation(objective), min_snr_gamma=5.0).loss(z, noise, level, z)
    assert loss.isfinite()


def test_a_weighted_objective_weighs_samples():
    noise, level = torch.randn(2, 3, 4, generator=generator()), torch.tensor([torch.tensor(10.0).log(), -1.0])
    off = torch.tensor([1.0, 2.0]).view(2, 1, 1)
    weighted = Diffusion(min_snr_gamma=5.0)
    assert float(weighted.loss(noise, noise, level, noise + off)) == pytest.approx((0.5 + 4.0) / 2)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [("single", {("a",), ("b",)}), ("all", {("a", "b")}), ("subsets", {("a",), ("b",), ("a", "b")})],
)
def test_which_prompts_are_drawn(sampling, expected):
    draws = generator()
    assert {draw_prompts(("a", "b"), sampling, draws) for _ in range(50)} == expected
    assert draw_prompts((), sampling, draws) == ()


def test_all_subsets_are_drawn_equally_often():
    draws = generator()
    counts = Counter(draw_subset(("a", "b", "c"), draws) for _ in range(7000))
    assert len(counts) == 7
    assert () not in counts
    assert all(abs(count - 1000) < 150 for count in counts.values()), counts
