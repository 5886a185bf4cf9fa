"""E16: every solver, with one flow, is the scheduler of diffusers on diffusers' own grid, whatever is predicted."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
)

from core.generate.joint_sampling import shared_schedule
from core.generate.solvers import Estimate, ddim_step, dpmpp_2m_step, euler_step, heun_correction, heun_slope, solve
from core.nn import NoiseSchedule, Parameterisation, alpha_sigma, log_snr_of_timestep

BETAS = {"beta_start": 0.00085, "beta_end": 0.0120, "beta_schedule": "scaled_linear"}
PREDICTION = {"epsilon": "epsilon", "v": "v_prediction", "clean": "sample"}
STEPS = 50


def noise_estimate(z, alpha, sigma):
    """Right for white data of unit variance, plus something that is not linear and mixes the pixels."""
    mixed = z + 0.5 * z.roll(1, -1) - z.mean((-1, -2), keepdim=True)
    return sigma * z + 0.5 * alpha * torch.tanh(mixed)


def fake_network(z, alpha, sigma, objective):
    """What it says of a latent, in a parameterisation: computed with plain numbers, never at pure noise for epsilon."""
    if objective == "epsilon":
        return noise_estimate(z, alpha, sigma)
    if alpha < 1e-3:  # of pure noise a network says a mean, whose noise estimate follows
        clean = 0.3 * torch.tanh(z.roll(1, -1))
    else:
        clean = (z - sigma * noise_estimate(z, alpha, sigma)) / alpha
    noise = (z - alpha * clean) / sigma
    return {"v": alpha * noise - sigma * clean, "clean": clean, "rectified_flow": noise - clean}[objective]


def start(seed=0):
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def ours(grid, solver, objective="epsilon", z=None, noise=None, eta=0.0):
    def predict(latents, levels, due):
        factors = [[float(one) for one in alpha_sigma(levels[flow].double())] for flow in due]
        return tuple(fake_network(latents[flow], *both, objective) for flow, both in zip(due, factors, strict=True))

    start_z, chosen = (start() if z is None else z,), Parameterisation(objective)
    return solve(predict, start_z, grid, noise, solver=solver, eta=eta, parameterisation=chosen)[0]


def levels_at(scheduler, steps, last=torch.inf):
    """log-SNR at their steps, and the last level."""
    survival = torch.tensor([survival_at(scheduler, step) for step in steps], dtype=torch.float64)
    return torch.cat([(survival.log() - (-survival).log1p()).float(), torch.tensor([float(last)])])


def survival_at(scheduler, step):
    """Their alpha_bar of a step; some have sigma / alpha instead, at timesteps that are no integers."""
    if hasattr(scheduler, "sigmas"):
        return float(1 / (scheduler.sigmas[step].double() ** 2 + 1))
    return float(scheduler.alphas_cumprod.double()[scheduler.timesteps[step]])


def theirs(scheduler, z, objective="epsilon", eta=None, noise=None):
    """Their loop, in their own scale of latents; ends on a clean latent, where the scales agree."""
    z = z * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        survival = survival_at(scheduler, step)
        scaled = scheduler.scale_model_input(z, timestep)
        predicted = fake_network(scaled, survival**0.5, (1 - survival) ** 0.5, objective)
        kwargs = {} if eta is None else {"eta": eta, "variance_noise": noise(0, step) if eta else None}
        z = scheduler.step(predicted, timestep, z, **kwargs).prev_sample
    return z


def gap(first, second):
    difference = float((first - second).abs().max())
    print(f"largest difference to diffusers: {difference:.2e} at values up to {float(second.abs().max()):.2f}")
    return difference


def at_first_sigma(scheduler):
    """Our start, whose variance is one: theirs is ``init_noise_sigma`` times as large, at another first sigma."""
    return start() * scheduler.init_noise_sigma / float((scheduler.sigmas[0] ** 2 + 1) ** 0.5)


@pytest.mark.parametrize("objective", PREDICTION)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim(eta, objective):
    scheduler = DDIMScheduler(
        **BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=PREDICTION[objective]
    )
    scheduler.set_timesteps(STEPS)
    assert scheduler.timesteps[0] == 981
    draws = torch.randn(STEPS, 2, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    noise = lambda flow, step: draws[step]  # noqa: E731
    grid = levels_at(scheduler, range(STEPS), last=log_snr_of_timestep(torch.tensor(0.0)))
    found = ours(grid, "ddim", objective, noise=noise, eta=eta)
    assert gap(found, theirs(scheduler, start(), objective, eta, noise)) < 1e-5


@pytest.mark.parametrize("objective", ["v", "clean"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_from_pure_noise(eta, objective):
    scheduler = DDIMScheduler(
        **BETAS,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        prediction_type=PREDICTION[objective],
    )
    scheduler.set_timesteps(STEPS)
    draws = torch.randn(STEPS, 2, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    noise = lambda flow, step: draws[step] * (step < STEPS - 1)  # noqa: E731 - the last step has no variance
    grid = shared_schedule(STEPS, NoiseSchedule(name="zero_terminal_snr"))
    assert grid[0] == -torch.inf
    assert torch.allclose(grid[1:], levels_at(scheduler, range(STEPS))[1:], atol=1e-3)
    found = ours(grid, "ddim", objective, noise=noise, eta=eta)
    assert gap(found, theirs(scheduler, start(), objective, eta, noise)) < 1e-5


@pytest.mark.parametrize("objective", ["epsilon", "v"])  # it cannot take 'sample'
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_euler(spacing, objective):
    scheduler = EulerDiscreteScheduler(
        **BETAS, timestep_spacing=spacing, steps_offset=1, prediction_type=PREDICTION[objective]
    )
    scheduler.set_timesteps(STEPS)
    grid = levels_at(scheduler, range(STEPS))
    found = ours(grid, "euler", objective, at_first_sigma(scheduler))
    assert gap(found, theirs(scheduler, start(), objective)) < 1e-5


@pytest.mark.parametrize("objective", ["epsilon", "v"])  # it cannot take 'sample'
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_heun(spacing, objective):
    scheduler = HeunDiscreteScheduler(
        **BETAS, timestep_spacing=spacing, steps_offset=1, prediction_type=PREDICTION[objective]
    )
    scheduler.set_timesteps(STEPS)
    own = [0, *range(1, len(scheduler.timesteps), 2)]
    assert len(own) == STEPS
    found = ours(levels_at(scheduler, own), "heun", objective, at_first_sigma(scheduler))
    assert gap(found, theirs(scheduler, start(), objective)) < 1e-5


@pytest.mark.parametrize("objective", PREDICTION)
@pytest.mark.parametrize("steps", [7, STEPS])
def test_dpmpp_2m(steps, objective):
    scheduler = DPMSolverMultistepScheduler(
        **BETAS, algorithm_type="dpmsolver++", solver_order=2, prediction_type=PREDICTION[objective]
    )
    scheduler.set_timesteps(steps)
    found = ours(levels_at(scheduler, range(steps)), "dpmpp_2m", objective)
    assert gap(found, theirs(scheduler, start(), objective)) < 1e-5


def flow_matching(scheduler, z):
    """Their loop of rectified flow: the network reads a latent that is divided to preserve its variance."""
    for timestep in scheduler.timesteps:
        sigma = float(timestep) / scheduler.config.num_train_timesteps
        norm = (sigma**2 + (1 - sigma) ** 2) ** 0.5
        predicted = fake_network(z / norm, (1 - sigma) / norm, sigma / norm, "rectified_flow")
        z = scheduler.step(predicted, timestep, z).prev_sample
    return z


@pytest.mark.parametrize("solver", ["euler", "ddim"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_rectified_flow(shift, solver):
    """Its Euler steps, from pure noise; at the end, on a clean latent, both scales agree."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    sigmas = torch.arange(STEPS, 0, -1) / STEPS
    scheduler.set_timesteps(sigmas=sigmas.tolist())
    linear = NoiseSchedule(name="linear", shift=-2 * torch.tensor(shift).log().item())
    found = ours(shared_schedule(STEPS, linear), solver, "rectified_flow")
    assert gap(found, flow_matching(scheduler, start())) < 1e-5


def test_heun_of_rectified_flow():
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(STEPS)
    sigmas = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1:-1:2]]).double()
    grid = torch.cat([2 * ((1 - sigmas) / sigmas).log(), torch.tensor([torch.inf]).double()]).float()
    assert len(grid) == STEPS + 1
    assert gap(ours(grid, "heun", "rectified_flow"), flow_matching(scheduler, start())) < 1e-5


@pytest.mark.parametrize("step", [ddim_step, euler_step, lambda now, level: dpmpp_2m_step(now, None, level)])
@pytest.mark.parametrize("objective", [*PREDICTION, "rectified_flow"])
def test_a_first_step_holds_the_clean_estimate(step, objective):
    """At first order, without noise, all solvers are one: exact while the clean estimate is."""
    z, predicted, level = start(), start(1), 1.5
    now = Estimate.of(-2.0, z, predicted, Parameterisation(objective))
    alpha, sigma = alpha_sigma(torch.tensor(level))
    assert torch.allclose(step(now, level), alpha * now.clean + sigma * now.noise, atol=1e-5)
    assert torch.allclose(step(now, torch.inf), now.clean, atol=1e-5)


@pytest.mark.parametrize("step", [ddim_step, euler_step, lambda now, level: dpmpp_2m_step(now, None, level)])
@pytest.mark.parametrize("objective", ["v", "clean", "rectified_flow"])
def test_a_first_step_from_pure_noise_keeps_the_noise(step, objective):
    z, clean = start(), start(1)
    predicted = {"v": -clean, "clean": clean, "rectified_flow": z - clean}[objective]
    alpha, sigma = alpha_sigma(torch.tensor(-1.0))
    found = step(Estimate.of(-torch.inf, z, predicted, Parameterisation(objective)), -1.0)
    assert torch.allclose(found, alpha * clean + sigma * z, atol=1e-5)


def test_heun_takes_the_mean_of_both_slopes():
    assert torch.equal(heun_slope(torch.tensor([1.0]), torch.tensor([3.0])), torch.tensor([2.0]))


@pytest.mark.parametrize(
    ("objective", "level", "slope"),
    [
        ("v", -2.0, lambda state: state.noise),
        ("rectified_flow", -2.0, lambda state: state.noise - state.clean),
        ("v", -torch.inf, lambda state: state.noise - state.clean),
    ],
)
def test_heun_corrects_the_slope_of_its_path_and_keeps_the_latent(objective, level, slope):
    chosen = Parameterisation(objective)
    now = Estimate.of(level, start(), start(1), chosen)
    following = Estimate.of(0.5, start(2), start(3), chosen)
    corrected = heun_correction(now, following, chosen)
    assert torch.allclose(slope(corrected), (slope(now) + slope(following)) / 2, atol=1e-5)
    assert torch.equal(corrected.z, now.z)
    assert torch.allclose(corrected.at(level), now.z, atol=1e-5)


@pytest.mark.parametrize("solver", ["ddim", "euler", "heun", "dpmpp_2m"])
def test_the_parameterisation_does_not_change_what_a_solver_does(solver):
    """One network, whatever it predicts; rectified flow has a Heun of its own."""
    grid = shared_schedule(STEPS)
    expected = ours(grid, solver)
    for objective in ("v", "clean", *(["rectified_flow"] if solver != "heun" else [])):
        assert gap(ours(grid, solver, objective), expected) < 2e-5


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
@pytest.mark.parametrize("objective", [*PREDICTION, "rectified_flow"])
def test_order_of_convergence(solver, order, objective):
    """With Gaussian data N(0, 4) the perfect network is known, and so is where the flow ends."""

    def predict(latents, levels, due):
        alpha, sigma = (float(one) for one in alpha_sigma(levels[0].double()))
        variance = 4 * alpha**2 + sigma**2
        noise, clean = latents[0] * sigma / variance, latents[0] * 4 * alpha / variance
        by_name = {"epsilon": noise, "v": alpha * noise - sigma * clean, "clean": clean}
        return ((by_name | {"rectified_flow": noise - clean})[objective],)

    first, last, chosen = -4.0, 4.0, Parameterisation(objective)
    (a, s), (b, t) = ([float(x) for x in alpha_sigma(torch.tensor(level).double())] for level in (first, last))
    exact = ((4 * b**2 + t**2) / (4 * a**2 + s**2)) ** 0.5
    errors = []
    for steps in (20, 40):
        grid, z = torch.linspace(first, last, steps + 1), (torch.ones(1, 1).double(),)
        errors.append(abs(float(solve(predict, z, grid, solver=solver, parameterisation=chosen)[0]) - exact))
    assert errors[0] / errors[1] > 2**order * 0.8, errors
