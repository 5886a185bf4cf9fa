"""The noise levels of a pretrained denoiser are those of the scheduler beside it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, PNDMScheduler

from core.contract.modality import pretrained_objective
from core.errors import MedWeaveWarning, UserError
from core.nn import GridDenoiserConfig, log_snr_of_timestep, universal_timestep
from core.nn.pretrained import load_levels

DENOISER = {"channels": 3, "space": (8, 4), "prompt_width": 12}
BETAS = {"beta_start": 0.00085, "beta_end": 0.0120, "beta_schedule": "scaled_linear"}


@pytest.fixture
def folder(tmp_path, diffusers_kind, randomised):
    randomised(diffusers_kind.make()).save_pretrained(tmp_path / "unet")
    return tmp_path


def built(folder, scheduler):
    scheduler.save_pretrained(folder / "scheduler")
    return GridDenoiserConfig(**DENOISER, init_from=str(folder)).build()


def levels_of(scheduler):
    survival = scheduler.alphas_cumprod.double()
    return (survival.log() - (-survival).log1p()).float()


@pytest.mark.parametrize(
    ("scheduler", "objective"),
    [
        (PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1), "epsilon"),
        (DDIMScheduler(**BETAS, prediction_type="v_prediction"), "v"),
        (EulerDiscreteScheduler(**BETAS, prediction_type="sample"), "clean"),
        (DDIMScheduler(**BETAS, prediction_type="v_prediction", rescale_betas_zero_snr=True), "v"),
        (DDIMScheduler(num_train_timesteps=400, beta_schedule="linear"), "epsilon"),
        (DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"), "v"),
    ],
)
def test_levels_become_the_timesteps_of_the_folder(folder, scheduler, objective):
    denoiser = built(folder, scheduler)
    assert pretrained_objective(denoiser) == objective
    timesteps = torch.arange(0, scheduler.config.num_train_timesteps, 7)
    found = denoiser.timestep(levels_of(scheduler)[timesteps])
    torch.testing.assert_close(found, timesteps.float(), rtol=0, atol=5e-2)
    ends = denoiser.timestep(torch.tensor([torch.inf, -torch.inf]))
    assert ends.tolist() == [0, scheduler.config.num_train_timesteps - 1]


def test_the_network_is_asked_at_that_timestep(folder, new_conditioning):
    denoiser, conditioning = built(folder, DDIMScheduler(**BETAS)), replace(new_conditioning(), context=None)
    noisy, timesteps = torch.randn(2, 3, 8, 4), torch.tensor([21.0, 801.0])
    expected = denoiser.network(
        noisy, timesteps, conditioning.prompt, encoder_attention_mask=conditioning.prompt_mask
    ).sample
    found = denoiser(noisy, log_snr_of_timestep(timesteps), conditioning)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not any("angles" in name for name in denoiser.state_dict())


def test_a_network_alone_is_read_with_the_scheduler_beside_it(folder):
    DDIMScheduler(**BETAS, prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    denoiser = GridDenoiserConfig(**DENOISER, init_from=str(folder / "unet")).build()
    assert pretrained_objective(denoiser) == "v"
    assert load_levels(str(folder / "unet"), "unet").objective == "v"


def test_without_a_scheduler_it_is_said_what_is_assumed(folder):
    with pytest.warns(MedWeaveWarning, match=r"no scheduler/scheduler_config\.json.*Stable Diffusion"):
        denoiser = GridDenoiserConfig(**DENOISER, init_from=str(folder)).build()
    assert pretrained_objective(denoiser) is None
    assert float(denoiser.timestep(log_snr_of_timestep(torch.tensor([500])))) == pytest.approx(500, abs=0.01)


def test_a_denoiser_from_scratch_tells_all_levels_apart():
    denoiser = GridDenoiserConfig(**DENOISER, widths=(32, 64), attention=(False, True)).build()
    levels = torch.tensor([-torch.inf, -9.0, -6.0, 0.0, 9.0])
    assert torch.equal(denoiser.timestep(levels), universal_timestep(levels))
    assert pretrained_objective(denoiser) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"prediction_type": "flow"}, "prediction_type is 'flow'.*prediction_type epsilon, sample, v_prediction"),
        ({"beta_schedule": "unknown"}, "NotImplementedError"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_one_line(folder, change, expected):
    DDIMScheduler(**BETAS).save_pretrained(folder / "scheduler")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=expected):
        GridDenoiserConfig(**DENOISER, init_from=str(folder)).build()


def test_flow_matching_and_damaged_files_are_one_line(folder):
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(UserError, match="FlowMatchEulerDiscreteScheduler has no betas"):
        GridDenoiserConfig(**DENOISER, init_from=str(folder)).build()
    (folder / "scheduler" / "scheduler_config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be used"):
        GridDenoiserConfig(**DENOISER, init_from=str(folder)).build()
