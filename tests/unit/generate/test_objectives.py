"""A denoiser that is trained with any objective and schedule samples the distribution of its data."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.diffuse.objective import Diffusion, noised
from core.generate.joint_sampling import shared_schedule
from core.generate.solvers import solve
from core.nn import NoiseSchedule, Parameterisation, alpha_sigma, universal_timestep
from core.nn.denoisers.unet0d import timestep_features

MEAN, STD = torch.tensor([1.5, -1.0, 0.0]), torch.tensor([0.3, 1.0, 0.1])
COMBINATIONS = [
    ("epsilon", "scaled_linear"),
    ("v", "zero_terminal_snr"),
    ("v", "cosine"),
    ("clean", "zero_terminal_snr"),
    ("rectified_flow", "linear"),
]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3 + 32, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 3))

    def forward(self, noisy, level):
        return self.layers(torch.cat([noisy, timestep_features(universal_timestep(level), 32)], 1))


def data(batch, draws):
    return MEAN + STD * torch.randn(batch, 3, generator=draws)


def trained(diffusion, steps=400):
    draws = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        z = data(128, draws)
        level, noise = diffusion.draw_levels(128, draws), torch.randn(z.shape, generator=draws)
        loss = diffusion.loss(z, noise, level, net(noised(z, level, noise), level))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return net


def deviations(predict, diffusion, num):
    """Means and deviations of what each solver samples in 25 steps."""
    start = torch.randn(num, 3, generator=torch.Generator().manual_seed(1))
    grid = shared_schedule(25, diffusion.schedule)
    with torch.no_grad():
        for solver in ("ddim", "heun", "dpmpp_2m"):
            found = solve(predict, (start,), grid, solver=solver, parameterisation=diffusion.parameterisation)[0]
            yield solver, found.mean(0).tolist(), found.std(0).tolist()


@pytest.mark.parametrize(("objective", "schedule"), COMBINATIONS)
def test_the_exact_denoiser_samples_the_data(objective, schedule):
    """The posterior mean of normal data is known: what is left is the error of 25 steps, the same for any objective."""
    diffusion = Diffusion(parameterisation=Parameterisation(objective), schedule=NoiseSchedule(name=schedule))

    def exact(z, level):
        alpha, sigma = alpha_sigma(level.double())
        clean = MEAN + STD**2 * alpha / (alpha**2 * STD**2 + sigma**2) * (z.double() - alpha * MEAN)
        noise = (z.double() - alpha * clean) / sigma
        return diffusion.parameterisation.target(clean, noise, level.double()).float()

    def predict(latents, levels, due):
        return tuple(exact(latents[flow], levels[flow]) for flow in due)

    for solver, mean, std in deviations(predict, diffusion, 4000):
        assert mean == pytest.approx(MEAN.tolist(), abs=0.1), solver
        assert std == pytest.approx(STD.tolist(), abs=0.065), solver


@pytest.mark.parametrize(("objective", "schedule"), COMBINATIONS)
def test_samples_have_the_mean_and_deviation_of_the_data(objective, schedule):
    # An error of predicted data weighs most where there is hardly any noise, which all levels alike would not teach.
    gamma, steps = (5.0, 1200) if objective == "clean" else (None, 400)
    diffusion = Diffusion(
        parameterisation=Parameterisation(objective), schedule=NoiseSchedule(name=schedule), min_snr_gamma=gamma
    )
    net = trained(diffusion, steps)

    def predict(latents, levels, due):
        return tuple(net(latents[flow], levels[flow].expand(len(latents[flow]))) for flow in due)

    for solver, mean, std in deviations(predict, diffusion, 500):
        assert mean == pytest.approx(MEAN.tolist(), abs=0.25), solver
        assert std == pytest.approx(STD.tolist(), abs=0.15), solver
