"""The shared schedule, and solvers on several flows with fewer steps (E16)."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from core.errors import UserError
from core.generate.joint_sampling import shared_schedule, substep_indices
from core.generate.solvers import Estimate, solve
from core.nn import NoiseSchedule, Parameterisation, alpha_sigma, timestep_of_log_snr

EPSILON = Parameterisation("epsilon")

SOLVERS = ["ddim", "euler", "heun", "dpmpp_2m"]


def network(z, level):
    alpha, sigma = alpha_sigma(level)
    return sigma * z + 0.3 * alpha * torch.tanh(2 * z)


def predict(latents, levels, due):
    return tuple(network(latents[flow], levels[flow]) for flow in due)


def start(*seeds):
    return tuple(torch.randn(2, 5, generator=torch.Generator().manual_seed(seed)) for seed in seeds)


@pytest.mark.parametrize("steps", [1, 7, 20, 50, 333, 1000])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("name", ["scaled_linear", "zero_terminal_snr", "cosine", "linear"])
def test_a_grid_falls_strictly_to_a_clean_latent(steps, spacing, name):
    grid = shared_schedule(steps, NoiseSchedule(name=name), spacing)
    assert grid.shape == (steps + 1,)
    assert (grid.diff() > 0).all(), "log-SNR rises as noise falls"
    assert grid[-1] == torch.inf


def test_grids_are_those_of_the_literature():
    whole = lambda steps, spacing: timestep_of_log_snr(shared_schedule(steps, None, spacing)[:-1]).round().tolist()  # noqa: E731
    assert whole(50, "leading")[:2] + whole(50, "leading")[-1:] == [981, 961, 1]
    assert whole(50, "trailing")[:2] + whole(50, "trailing")[-1:] == [999, 979, 19]
    assert whole(50, "linspace")[:1] + whole(50, "linspace")[-1:] == [999, 0]
    with pytest.raises(UserError, match="between 1 and 1000, found 0"):
        shared_schedule(0)
    with pytest.raises(UserError, match="between 1 and 400, found 401"):
        shared_schedule(401, NoiseSchedule(timesteps=400))


def test_sampling_begins_where_training_ends():
    first = {name: float(shared_schedule(10, NoiseSchedule(name=name))[0]) for name in ("cosine", "linear")}
    assert first == pytest.approx({"cosine": -15, "linear": -torch.inf}, abs=1e-3)
    assert shared_schedule(10, NoiseSchedule(name="zero_terminal_snr"))[0] == -torch.inf


@pytest.mark.parametrize(("num", "steps"), [(50, 50), (50, 25), (50, 7), (8, 1), (5, 4)])
def test_substeps_share_both_ends(num, steps):
    points = substep_indices(num, steps)
    assert (points[0], points[-1], len(points)) == (0, num, steps + 1)
    gaps = [b - a for a, b in pairwise(points)]
    assert max(gaps) - min(gaps) <= 1
    assert min(gaps) >= 1
    with pytest.raises(UserError, match="between 1 and"):
        substep_indices(num, num + 1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_flows_that_do_not_listen_end_as_if_alone(solver):
    grid, (first, second) = shared_schedule(9), start(0, 1)
    together = solve(predict, (first, second), grid, solver=solver)
    assert torch.equal(together[0], solve(predict, (first,), grid, solver=solver)[0])
    assert torch.equal(together[1], solve(predict, (second,), grid, solver=solver)[0])


@pytest.mark.parametrize(("solver", "eta"), [*((solver, 0.0) for solver in SOLVERS), ("ddim", 1.0)])
def test_a_coarser_flow_ends_as_it_would_alone(solver, eta):
    grid, points = shared_schedule(8), substep_indices(8, 4)
    draws = torch.randn(8, 2, 5, generator=torch.Generator().manual_seed(3))
    fine, coarse = solve(
        predict, start(0, 1), grid, lambda flow, step: draws[step], solver=solver, eta=eta, points=[range(9), points]
    )
    own = grid[torch.tensor(points)]
    alone = solve(predict, start(1), own, lambda flow, step: draws[points[step]], solver=solver, eta=eta)[0]
    assert torch.allclose(coarse, alone, atol=1e-6)
    assert torch.equal(fine, solve(predict, start(0), grid, lambda flow, step: draws[step], solver=solver, eta=eta)[0])


def test_between_its_points_a_flow_is_seen_with_its_clean_estimate_held():
    grid, seen = shared_schedule(4), []

    def watched(latents, levels, due):
        seen.append((latents[1], float(levels[1]), due))
        return predict(latents, levels, due)

    solve(watched, start(0, 1), grid, points=[range(5), (0, 2, 4)])
    assert [due for _, _, due in seen] == [(0, 1), (0,), (0, 1), (0,)]
    (z, level, _), (held, later, _) = seen[:2]
    estimate = Estimate.of(level, z, network(z, torch.tensor(level)), EPSILON)
    assert torch.allclose(held, estimate.at(later))
    alpha, sigma = alpha_sigma(torch.tensor(later))
    assert torch.allclose((held - sigma * estimate.noise) / alpha, estimate.clean, atol=1e-5)


def test_heun_sees_all_flows_at_the_level_it_corrects_at():
    seen = []

    def watched(latents, levels, due):
        seen.append((tuple(round(float(level), 4) for level in levels), due))
        return predict(latents, levels, due)

    grid = shared_schedule(3)
    first, second, third = (round(float(level), 4) for level in grid[:-1])
    solve(watched, start(0, 1), grid, solver="heun", points=[range(4), (0, 2, 3)])
    assert seen == [
        ((first, first), (0, 1)),
        ((second, second), (0,)),
        ((third, third), (1,)),
        ((second, second), (0,)),
        ((third, third), (0,)),
        ((third, third), (0, 1)),
    ]


def test_a_perfect_network_gives_the_data_back():
    """All data at one point: the noise is known exactly, and every solver ends there."""
    target = torch.tensor([0.7, -1.2, 0.1, 2.0, 0.0])

    def knows(latents, levels, due):
        pairs = [(latents[flow], alpha_sigma(levels[flow])) for flow in due]
        return tuple((z - alpha * target) / sigma for z, (alpha, sigma) in pairs)

    for solver in SOLVERS:
        assert torch.allclose(
            solve(knows, start(0), shared_schedule(6), solver=solver)[0], target.expand(2, 5), atol=1e-4
        )


@pytest.mark.parametrize("objective", ["v", "clean", "rectified_flow"])
@pytest.mark.parametrize("schedule", ["zero_terminal_snr", "linear", "cosine"])
def test_a_perfect_network_gives_the_data_back_from_pure_noise(objective, schedule):
    target = torch.tensor([0.7, -1.2, 0.1, 2.0, 0.0])

    def knows(latents, levels, due):
        factors = [alpha_sigma(levels[flow].double()) for flow in due]
        noise = [(latents[flow] - a * target) / s for flow, (a, s) in zip(due, factors, strict=True)]
        return tuple(
            {"v": a * eps - s * target, "clean": target + 0 * eps, "rectified_flow": eps - target}[objective]
            for eps, (a, s) in zip(noise, factors, strict=True)
        )

    for solver in SOLVERS:
        found = solve(
            knows,
            start(0),
            shared_schedule(6, NoiseSchedule(name=schedule)),
            solver=solver,
            parameterisation=Parameterisation(objective),
        )[0]
        assert torch.allclose(found, target.expand(2, 5), atol=1e-4), solver


def test_predicted_noise_cannot_be_sampled_from_pure_noise():
    for name in ("zero_terminal_snr", "linear"):
        with pytest.raises(UserError, match=r"zero terminal SNR.* needs .*'v', 'clean' or 'rectified_flow'"):
            solve(predict, start(0), shared_schedule(4, NoiseSchedule(name=name)))


def test_ddim_noise_has_the_variance_that_eta_asks_for():
    """One step with eta 1 is the posterior of DDPM."""
    from core.generate.solvers import ddim_step

    z, eps, noise = *start(0, 1), torch.ones(2, 5)
    now, level = Estimate.of(-1.0, z, eps, EPSILON), 0.5
    (a, s), (b, t) = (tuple(map(float, alpha_sigma(torch.tensor(one).double()))) for one in (-1.0, 0.5))
    std = (t**2 / s**2 * (1 - a**2 / b**2)) ** 0.5
    added = ddim_step(now, level, 1.0, noise) - ddim_step(now, level, 1.0, 0 * noise)
    assert torch.allclose(added, torch.full((2, 5), std), atol=1e-5)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="give the noise to draw"):
        solve(predict, start(0), shared_schedule(2), eta=1.0)
    with pytest.raises(UserError, match="draws no noise"):
        solve(predict, start(0), shared_schedule(2), lambda *_: torch.zeros(1), solver="heun", eta=1.0)
    for points in ([(0, 1)], [(1, 2)], [(0, 0, 2)]):
        with pytest.raises(ValueError, match="must rise from the first level to the last"):
            solve(predict, start(0), shared_schedule(2), points=points)
    with pytest.raises(ValueError, match="1 flows need as many rows"):
        solve(predict, start(0), shared_schedule(2), points=[(0, 2), (0, 2)])
