"""E16: every solver, with one flow, is the scheduler of diffusers on diffusers' own grid."""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler

from core.generate.solvers import Estimate, ddim_step, dpmpp_2m_step, euler_step, heun_slope, solve
from core.nn import alpha_sigma, log_snr_of_timestep, timestep_of_log_snr

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.0120, "beta_schedule": "scaled_linear"}
STEPS = 50


def fake_network(z, timestep):
    """Right for white data of unit variance, plus something that is not linear and mixes the pixels."""
    alpha, sigma = (float(value) for value in alpha_sigma(log_snr_of_timestep(torch.as_tensor(timestep))))
    mixed = z + 0.5 * z.roll(1, -1) - z.mean((-1, -2), keepdim=True)
    return sigma * z + 0.5 * alpha * torch.tanh(mixed)


def start(seed=0):
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def ours(grid, solver, z=None, noise=None, eta=0.0):
    def predict(latents, levels, due):
        return tuple(fake_network(latents[flow], timestep_of_log_snr(levels[flow])) for flow in due)

    return solve(predict, (start() if z is None else z,), grid, noise, solver=solver, eta=eta)[0]


def levels_at(timesteps, last=torch.inf):
    return torch.cat([log_snr_of_timestep(torch.as_tensor(timesteps).float()), torch.tensor([float(last)])])


def theirs(scheduler, z, eta=None, noise=None):
    """Their loop, in their own scale of latents; ends on a clean latent, where the scales agree."""
    z = z * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        eps = fake_network(scheduler.scale_model_input(z, timestep), timestep)
        kwargs = {} if eta is None else {"eta": eta, "variance_noise": noise(0, step) if eta else None}
        z = scheduler.step(eps, timestep, z, **kwargs).prev_sample
    return z


def gap(first, second):
    difference = float((first - second).abs().max())
    print(f"largest difference to diffusers: {difference:.2e} at values up to {float(second.abs().max()):.2f}")
    return difference


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim(eta):
    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    scheduler.set_timesteps(STEPS)
    assert scheduler.timesteps[0] == 981
    draws = torch.randn(STEPS, 2, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    noise = lambda flow, step: draws[step]  # noqa: E731
    grid = levels_at(scheduler.timesteps, last=log_snr_of_timestep(torch.tensor(0.0)))
    assert gap(ours(grid, "ddim", noise=noise, eta=eta), theirs(scheduler, start(), eta, noise)) < 1e-5


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_euler(spacing):
    scheduler = EulerDiscreteScheduler(**SCHEDULE, timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(STEPS)
    z = start() * scheduler.init_noise_sigma / float((scheduler.sigmas[0] ** 2 + 1) ** 0.5)
    assert gap(ours(levels_at(scheduler.timesteps), "euler", z), theirs(scheduler, start())) < 1e-5


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_heun(spacing):
    scheduler = HeunDiscreteScheduler(**SCHEDULE, timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(STEPS)
    z = start() * scheduler.init_noise_sigma / float((scheduler.sigmas[0] ** 2 + 1) ** 0.5)
    own = torch.cat([scheduler.timesteps[:1], scheduler.timesteps[1::2]])
    assert len(own) == STEPS
    assert gap(ours(levels_at(own), "heun", z), theirs(scheduler, start())) < 1e-5


@pytest.mark.parametrize("steps", [7, STEPS])
def test_dpmpp_2m(steps):
    scheduler = DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type="dpmsolver++", solver_order=2)
    scheduler.set_timesteps(steps)
    assert gap(ours(levels_at(scheduler.timesteps), "dpmpp_2m"), theirs(scheduler, start())) < 1e-5


@pytest.mark.parametrize("step", [ddim_step, euler_step, lambda now, level: dpmpp_2m_step(now, None, level)])
def test_a_first_step_holds_the_clean_estimate(step):
    """At first order, without noise, all solvers are one: exact while the clean estimate is."""
    z, eps = start(), start(1)
    now, level = Estimate(-2.0, z, eps), 1.5
    alpha, sigma = alpha_sigma(torch.tensor(level))
    assert torch.allclose(step(now, level), alpha * now.clean + sigma * eps, atol=1e-5)
    assert torch.allclose(step(now, torch.inf), now.clean, atol=1e-5)


def test_heun_takes_the_mean_of_both_slopes():
    assert torch.equal(heun_slope(torch.tensor([1.0]), torch.tensor([3.0])), torch.tensor([2.0]))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_order_of_convergence(solver, order):
    """With Gaussian data N(0, 4) the perfect network is known, and so is where the flow ends."""

    def predict(latents, levels, due):
        alpha, sigma = alpha_sigma(levels[0].double())
        return (latents[0] * sigma / (4 * alpha**2 + sigma**2),)

    first, last = -4.0, 4.0
    (a, s), (b, t) = ([float(x) for x in alpha_sigma(torch.tensor(level).double())] for level in (first, last))
    exact = ((4 * b**2 + t**2) / (4 * a**2 + s**2)) ** 0.5
    errors = []
    for steps in (20, 40):
        z = solve(predict, (torch.ones(1, 1).double(),), torch.linspace(first, last, steps + 1), solver=solver)[0]
        errors.append(abs(float(z) - exact))
    assert errors[0] / errors[1] > 2**order * 0.8, errors
