"""Objective, noise schedule and sampler that do not go together are one line before training starts."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.config.recipe import DiffuseChoice
from core.config.registry import load_registry
from core.config.run_config import Flags, resolve
from core.diffuse.objective import Diffusion
from core.errors import MedWeaveWarning, UserError
from core.flow.grammar import parse_flow
from core.flow.limits import require_consistency
from core.nn import NoiseSchedule, Parameterisation
from core.testing.toy import TOY_GRID, TOY_VECTOR

REGISTRY = load_registry(Path(__file__).parents[3] / "registry.toml")
TOYS = {modality.name: modality for modality in (TOY_GRID, TOY_VECTOR)}
FLOW = parse_flow("toy_vector-toy_grid", TOYS, {})


def checked(*settings):
    config = resolve(REGISTRY, TOYS, Flags(recipe="medm2g", set=list(settings)))
    require_consistency(config, REGISTRY, FLOW)
    return Diffusion.of(config.diffuse)


@pytest.mark.parametrize("schedule", ["zero_terminal_snr", "linear"])
def test_predicted_noise_and_pure_noise_do_not_go_together(schedule):
    with pytest.raises(UserError, match=r"zero terminal SNR.*needs the objective 'v', 'clean' or 'rectified_flow'"):
        checked(f"diffuse.schedule={schedule}")
    for objective in ("v", "clean", "rectified_flow"):
        chosen = checked(f"diffuse.schedule={schedule}", f"diffuse.objective={objective}")
        assert chosen.parameterisation == Parameterisation(objective)
        assert chosen.schedule.name == schedule


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["diffuse.beta_start=0.02"], "diffuse.beta_end = 0.012 is below diffuse.beta_start = 0.02"),
        (["sampler.steps=1001"], "sampler.steps = 1001: the schedule has 1000 noise levels"),
        (["diffuse.timesteps=10", "sampler.steps=11"], "set sampler.steps to 10 or less"),
        (["diffuse.density_scale=2"], "diffuse.density_scale = 2.0 is used with diffuse.density 'logit_normal' only"),
    ],
)
def test_contradictions_are_one_line(settings, expected):
    with pytest.raises(UserError, match=expected):
        checked(*settings)


def test_predicted_noise_with_the_cosine_is_a_warning():
    with pytest.warns(MedWeaveWarning, match=r"'epsilon' with diffuse\.schedule = 'cosine'.*set diffuse\.objective=v"):
        checked("diffuse.schedule=cosine")


def test_every_switch_reaches_the_diffusion():
    found = checked(
        "diffuse.objective=v",
        "diffuse.schedule=cosine",
        "diffuse.shift=-2",
        "diffuse.density=logit_normal",
        "diffuse.density_location=0.5",
        "diffuse.density_scale=1.5",
        "diffuse.min_snr_gamma=5",
    )
    assert found == Diffusion(
        parameterisation=Parameterisation("v"),
        schedule=NoiseSchedule(name="cosine", shift=-2.0),
        logit_normal=(0.5, 1.5),
        min_snr_gamma=5.0,
    )
    betas = checked("diffuse.timesteps=400", "diffuse.beta_start=0.001", "diffuse.beta_end=0.03")
    assert betas.schedule == NoiseSchedule(timesteps=400, beta_start=0.001, beta_end=0.03)
    assert Diffusion.of(DiffuseChoice()) == Diffusion(), "the papers'"


@pytest.mark.parametrize("setting", [{"objective": "noise"}, {"schedule": "linear_beta"}, {"density": "normal"}])
def test_unknown_names_are_refused(setting):
    with pytest.raises(ValidationError):
        DiffuseChoice(**setting)
