"""The coupling gain: closed forms with networks that know the answer, and untrained toy networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import core  # noqa: F401
from core.config.recipe import GuideChoice
from core.engine.rng import forked_rng
from core.errors import UserError
from core.evaluate.bootstrap import mismatched_patients
from core.evaluate.coupling import PartnerErrors, coupling_gain, partner_errors, relative_mse_reduction, summarised
from core.guide.attention import attach_guidance
from core.guide.context_encoder import new_context_encoder
from core.guide.losses import FlowState
from core.nn.schedule import alpha_sigma, log_snr_of_timestep
from core.testing.toy_nets import ToyDenoiser
from core.types import Conditioning, Context, LatentSpec

torch.set_num_threads(1)
TIMESTEP, NUM, WIDTH = 300, 40, 6


class Repeats:
    """A context encoder that tells its latent as it is."""

    def __call__(self, noisy: torch.Tensor, level: Any, clean: Any, absent: Any = None) -> Context:
        batch = len(noisy)
        tokens = torch.stack([torch.zeros_like(noisy), noisy], 1)
        return Context(
            tokens=tokens,
            mask=torch.ones(batch, 2, dtype=torch.bool),
            position_mm=torch.zeros(batch, 2, 3),
            axes=torch.zeros(batch, 2, 3, dtype=torch.bool),
        )


class Believes:
    """A denoiser that takes what the partner tells for its own latent; alone it predicts the prompt's first number."""

    latent_shape, prompt_width = (WIDTH,), 1

    def __call__(self, noisy: torch.Tensor, level: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        if conditioning.context is None:
            return conditioning.prompt[:, 0].expand_as(noisy)
        alpha, sigma = (factor[:, None] for factor in alpha_sigma(level))
        return (noisy - alpha * conditioning.context.tokens[:, 1]) / sigma


class Copies(Believes):
    """A denoiser that takes its partner for its own noise."""

    def __call__(self, noisy: torch.Tensor, level: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        context = conditioning.context
        return noisy * 0 if context is None else context.tokens[:, 1] / alpha_sigma(level)[1][:, None]


def flow(latent: torch.Tensor, rows: slice = slice(None)) -> FlowState:
    prompt = torch.linspace(0, 1, len(latent)).view(-1, 1, 1)[rows]
    conditioning = Conditioning(prompt=prompt, prompt_mask=torch.ones(prompt.shape[:2], dtype=torch.bool))
    return FlowState(latent=latent[rows], denoiser=Believes(), context_encoder=Repeats(), conditioning=conditioning)


@pytest.fixture(scope="module")
def latent() -> torch.Tensor:
    return torch.randn(NUM, WIDTH, generator=torch.Generator().manual_seed(0))


def test_a_clean_twin_leaves_no_error_and_a_mismatched_one_that_of_the_difference(latent):
    found = partner_errors(flow(latent), flow(latent), TIMESTEP, seed=0, clean=True)
    alpha, sigma = alpha_sigma(log_snr_of_timestep(torch.tensor([TIMESTEP])))
    difference = (latent - latent[mismatched_patients(NUM)]).square().mean(1)
    assert found.matched == pytest.approx(np.zeros(NUM), abs=1e-9)
    assert found.mismatched == pytest.approx(((alpha / sigma) ** 2 * difference).numpy(), rel=1e-3)
    assert found.alone.mean() == pytest.approx(1 + np.mean(np.linspace(0, 1, NUM) ** 2), abs=0.3), (
        "noise and the prompt"
    )


def test_a_noisy_twin_leaves_the_error_of_its_noise(latent):
    """(noise - (z_t - alpha z'_t) / sigma)^2 over twins with noise of their own."""
    found = partner_errors(flow(latent), flow(latent), TIMESTEP, seed=0)
    alpha, sigma = (float(f) for f in alpha_sigma(log_snr_of_timestep(torch.tensor([TIMESTEP]))))
    expected = (alpha / sigma) ** 2 * ((1 - alpha) ** 2 * float(latent.square().mean()) + sigma**2)
    assert found.matched.mean() == pytest.approx(expected, rel=0.25)
    assert found.mismatched.mean() > found.matched.mean()


def test_the_noise_is_the_studys_own_whatever_the_batch(latent):
    whole = partner_errors(flow(latent), flow(latent), TIMESTEP, seed=0)
    for size in (1, 7):
        same = partner_errors(flow(latent), flow(latent), TIMESTEP, seed=0, batch=size)
        for name in ("matched", "mismatched", "alone"):
            assert getattr(same, name) == pytest.approx(getattr(whole, name), rel=1e-5)
    some = slice(5, 15)
    few = partner_errors(flow(latent, some), flow(latent, some), TIMESTEP, seed=0, indices=range(5, 15))
    assert few.matched == pytest.approx(whole.matched[some], rel=1e-5)
    assert few.alone == pytest.approx(whole.alone[some], rel=1e-5)
    other_seed = partner_errors(flow(latent), flow(latent), TIMESTEP, seed=1)
    assert not np.allclose(other_seed.alone, whole.alone)


def test_both_flows_have_noise_of_their_own(latent):
    """Without a signal the partner tells its noise: taken for one's own it is wrong by 2, the same noise by 0."""
    nothing = replace(flow(latent * 0), denoiser=Copies())
    found = partner_errors(nothing, nothing, TIMESTEP, seed=0)
    assert found.matched.mean() == pytest.approx(2.0, rel=0.25)


def test_another_study_of_the_same_patient_is_no_mismatch(latent):
    twins = latent[: NUM // 2].repeat_interleave(2, 0)
    patients = np.repeat(np.arange(NUM // 2), 2).tolist()
    aware = partner_errors(flow(twins), flow(twins), TIMESTEP, seed=0, clean=True, patients=patients)
    assert aware.mismatched.min() > 1e-3
    naive = partner_errors(flow(twins), flow(twins), TIMESTEP, seed=0, clean=True)
    assert naive.mismatched.min() < 1e-6


def test_the_coupling_gain_by_timestep(latent):
    found = coupling_gain(flow(latent), flow(latent), (100, 500), seed=0, clean=True)
    assert list(found) == [100, 500]
    for one in found.values():
        assert one.over_mismatched.value == pytest.approx(1.0, abs=1e-4)
        assert one.over_alone.value == pytest.approx(1.0, abs=1e-4)
        assert one.t > 3
        assert one.p < 0.01
    unrelated = torch.randn(latent.shape, generator=torch.Generator().manual_seed(9))
    none = coupling_gain(flow(latent), flow(unrelated), (500,), seed=0, clean=True)[500]
    assert not none.over_mismatched.low > 0
    assert abs(none.t) < 3


def test_relative_reductions_are_means_over_levels(latent):
    mine, steps = flow(latent), (200, 600)
    none, other = relative_mse_reduction(mine, mine, steps, seed=1)
    each = [partner_errors(mine, mine, step, seed=1) for step in steps]
    for found, kind in ((none, "alone"), (other, "mismatched")):
        by_hand = np.mean([(getattr(one, kind) - one.matched) / getattr(one, kind) for one in each], axis=0)
        assert found.value == pytest.approx(by_hand.mean())
        assert found.low < by_hand.mean() < found.high


def test_summary_by_hand_and_by_scipy():
    errors = PartnerErrors(matched=np.array([0.5, 0.3]), mismatched=np.array([1.0, 0.4]), alone=np.array([2.0, 0.3]))
    found = summarised(errors)
    assert found.over_mismatched.value == pytest.approx((0.5 + 0.25) / 2)
    assert found.over_alone.value == pytest.approx((0.75 + 0.0) / 2)
    assert (found.over_mismatched.low, found.over_mismatched.high) == pytest.approx((0.25, 0.5))
    rng = np.random.default_rng(0)
    errors = PartnerErrors(matched=rng.random(30), mismatched=rng.random(30) + 0.2, alone=rng.random(30) + 0.1)
    difference = errors.mismatched - errors.matched
    assert summarised(errors).t == pytest.approx(difference.mean() / difference.std(ddof=1) * np.sqrt(30))
    assert summarised(errors).p == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)


def test_copies_of_a_patient_make_nothing_more_certain():
    rng = np.random.default_rng(0)
    once = PartnerErrors(matched=rng.random(20), mismatched=rng.random(20) + 0.2, alone=rng.random(20))
    four = PartnerErrors(**{name: np.repeat(getattr(once, name), 4) for name in ("matched", "mismatched", "alone")})
    patients = np.repeat(np.arange(20), 4).tolist()
    assert summarised(four, patients=patients).t == pytest.approx(summarised(once).t)
    assert summarised(four).t > 1.5 * summarised(once).t


def test_untrained_sublayers_change_nothing_exactly():
    """Zero-initialised: matched, mismatched and alone are bit-equal, and there is no gain (method E13)."""
    z = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    choice = GuideChoice(context="spatial", adaptation=True, levels="independent")
    with forked_rng(0, "test"):
        denoiser = ToyDenoiser(2, (), 32, 16)
        context_encoder = new_context_encoder(
            choice, LatentSpec(channels=2, space=()), None, width=8, prompt_width=16, depth=1
        )
        sites = attach_guidance(denoiser, None, context_width=8)
    state = FlowState(
        latent=z,
        denoiser=denoiser,
        context_encoder=context_encoder,
        conditioning=Conditioning(prompt=torch.ones(12, 1, 16), pooled=torch.ones(12, 16)),
    )
    errors = partner_errors(state, state, 250, seed=0)
    assert np.array_equal(errors.matched, errors.mismatched)
    assert np.array_equal(errors.matched, errors.alone)
    found = summarised(errors)
    assert (found.t, found.p, found.over_mismatched.value, found.over_alone.value) == (0.0, 1.0, 0.0, 0.0)
    with torch.no_grad(), forked_rng(1, "test"):
        for name in sites:
            sites[name].to_update.weight.normal_()
    moved = partner_errors(state, state, 250, seed=0)
    assert not np.allclose(moved.matched, moved.mismatched), "what the partner tells is heard"
    assert np.array_equal(moved.alone, errors.alone)


def test_one_study_cannot_be_mismatched(latent):
    one = flow(latent, slice(0, 1))
    with pytest.raises(UserError, match="too few of others"):
        partner_errors(one, one, TIMESTEP, seed=0)
