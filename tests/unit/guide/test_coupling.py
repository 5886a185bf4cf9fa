"""The coupling is real (F1): a short training on the toy cohort, true partners against another patient's."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core.config.recipe import GuideChoice
from core.engine.rng import make_generator
from core.guide.losses import ContextContrast, at_level, cross_guidance_mse, encode_context, trainable
from core.guide.noisy_study import guide_losses
from core.nn import log_snr_of_timestep
from core.types import Context

STEPS, BATCH, HELD_OUT = 140, 48, 200
TIMESTEPS = (50, 250, 450)
PLAIN = GuideChoice(context="spatial", levels="independent")
FULL = GuideChoice(context="spatial", adaptation=True, contrast=True, levels="independent", clean=0.1, partner_drop=0.1)


def train(flows: dict[str, Any], pairs: list[tuple[str, str]], choice: GuideChoice, steps: int = STEPS) -> None:
    """One round: what requires a gradient is trained."""
    contrast = ContextContrast()
    parts = [part for flow in flows.values() for part in (flow.denoiser, flow.context_encoder)]
    trained = [p for part in [*parts, contrast] for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    for step in range(steps):
        draws = make_generator(0, "guide", step)
        rows = torch.randint(0, len(next(iter(flows.values())).latents), (BATCH,), generator=draws)
        states = {name: flow.state(rows) for name, flow in flows.items()}
        pair = pairs[step % len(pairs)]
        terms = guide_losses({name: states[name] for name in pair}, draws, choice, contrast)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def shuffled(context: Context) -> Context:
    """The context of another patient's partner."""
    return replace(context, tokens=context.tokens.roll(1, 0), mask=context.mask.roll(1, 0))


@dataclass
class Compared:
    true: torch.Tensor
    other: torch.Tensor
    alone: torch.Tensor

    @property
    def t(self) -> float:
        """Paired t of other − true over the studies."""
        difference = self.other - self.true
        return float(difference.mean() / difference.std() * len(difference) ** 0.5)


@torch.no_grad()
def compared(receiver: Any, sender: Any, timestep: int, *, clean: bool = False) -> Compared:
    everyone = slice(0, HELD_OUT)
    level, no = log_snr_of_timestep(torch.full((HELD_OUT,), timestep)), torch.zeros(HELD_OUT, dtype=torch.bool)
    mine = at_level(receiver.latents[everyone], level, no, make_generator(1, "mine", timestep))
    theirs = at_level(sender.latents[everyone], level, no | clean, make_generator(1, "theirs", timestep))
    context, state = encode_context(sender.state(everyone), theirs), receiver.state(everyone)
    errors = (cross_guidance_mse(state, mine, one) for one in (context, shuffled(context), None))
    return Compared(*errors)


@pytest.fixture(scope="module")
def trained(new_flow):
    """Vector and grid after ``diffuse`` and a guide round; ``before`` and the held-out flows with them."""
    flows = {name: new_flow(name, 600) for name in ("vector", "grid")}
    for name, flow in flows.items():
        flow.train_alone(150, name)
        flow.attach()
    held_out = {name: replace_latents(flow, new_flow(name, HELD_OUT, 1).latents) for name, flow in flows.items()}
    before = {pair: compared(held_out[pair[0]], held_out[pair[1]], 250) for pair in directions()}
    frozen = {name: own_weights(flow) for name, flow in flows.items()}
    train(flows, [("vector", "grid")], FULL)
    return SimpleNamespace(flows=flows, held_out=held_out, before=before, frozen=frozen)


def replace_latents(flow: Any, latents: torch.Tensor) -> Any:
    other = copy.copy(flow)
    other.latents = latents
    return other


def directions() -> list[tuple[str, str]]:
    return [("vector", "grid"), ("grid", "vector")]


def own_weights(flow: Any) -> dict[str, torch.Tensor]:
    attached = {id(p) for p in flow.sites.parameters()}
    return {name: p.detach().clone() for name, p in flow.denoiser.named_parameters() if id(p) not in attached}


@pytest.mark.parametrize("pair", directions(), ids="<-".join)
def test_before_training_true_and_shuffled_partner_are_the_same_exactly(trained, pair):
    before = trained.before[pair]
    assert torch.equal(before.true, before.other)
    assert torch.equal(before.true, before.alone)


@pytest.mark.parametrize("pair", directions(), ids="<-".join)
def test_after_training_the_true_partner_helps_and_another_patients_does_not(trained, pair):
    for timestep in TIMESTEPS:
        found = compared(*(trained.held_out[name] for name in pair), timestep)
        true, other, alone = (float(errors.mean()) for errors in (found.true, found.other, found.alone))
        print(f"{'<-'.join(pair)} t={timestep}: true {true:.4f} shuffled {other:.4f} alone {alone:.4f} t {found.t:.1f}")
        assert found.t > 3, f"timestep {timestep}: paired t {found.t:.1f}"
    middle = compared(*(trained.held_out[name] for name in pair), 250)
    assert middle.true.mean() < 0.95 * middle.alone.mean()


@pytest.mark.parametrize("pair", directions(), ids="<-".join)
def test_a_clean_partner_reduces_the_error_more_than_a_noisy_one(trained, pair):
    receiver, sender = (trained.held_out[name] for name in pair)
    noisy, clean = compared(receiver, sender, 550), compared(receiver, sender, 550, clean=True)
    assert clean.true.mean() < 0.95 * noisy.true.mean()


def test_the_denoisers_own_weights_are_bit_equal_after_training(trained):
    for name, flow in trained.flows.items():
        now = own_weights(flow)
        assert now.keys() == trained.frozen[name].keys()
        assert all(torch.equal(value, now[key]) for key, value in trained.frozen[name].items())


def test_a_frozen_receiver_reads_a_new_sender(trained, new_flow):
    """The second round: ``grid`` keeps every weight, ``inverse`` is new; grid gains from it (E15, F4)."""
    flows = {"grid": trained.flows["grid"], "inverse": new_flow("inverse", 600)}
    flows["inverse"].train_alone(60, "inverse")
    flows["inverse"].attach()
    grid = flows["grid"]
    before = {name: p.clone() for part in (grid.denoiser, grid.context_encoder) for name, p in part.named_parameters()}
    grid.denoiser.requires_grad_(False)
    grid.context_encoder.requires_grad_(False)
    held_out = replace_latents(flows["inverse"], new_flow("inverse", HELD_OUT, 1).latents)
    strange = compared(trained.held_out["grid"], held_out, 250)
    train(flows, [("grid", "inverse")], FULL, 80)
    after = {name: p for part in (grid.denoiser, grid.context_encoder) for name, p in part.named_parameters()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    found = compared(trained.held_out["grid"], held_out, 250)
    assert found.t > 3
    assert found.true.mean() < 0.9 * strange.true.mean()
    assert found.true.mean() < found.alone.mean()
    grid.denoiser.requires_grad_(False)


def test_only_what_the_round_trains_gets_gradients(new_flow):
    """Sublayers, V and f; with a frozen sender and receiver nothing is computed at all."""
    flows = {name: new_flow(name) for name in ("inverse", "grid")}
    for flow in flows.values():
        flow.attach()
        with torch.no_grad():
            for name in flow.sites:
                flow.sites[name].to_update.weight.normal_(generator=torch.Generator().manual_seed(0))
    states = {name: flow.state(slice(0, 16)) for name, flow in flows.items()}
    often_clean = FULL.model_copy(update={"clean": 0.5})
    terms = guide_losses(states, make_generator(0, "x"), often_clean, ContextContrast())
    assert set(terms) == {"inverse given grid", "grid given inverse", "contrast inverse-grid"}
    sum(terms.values()).backward()
    for flow in flows.values():
        attached = {id(p) for p in flow.sites.parameters()}
        assert all(p.grad is None for p in flow.denoiser.parameters() if id(p) not in attached)
        for part in (flow.sites, flow.context_encoder):
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    flows["inverse"].denoiser.requires_grad_(False)
    flows["grid"].context_encoder.requires_grad_(False)
    assert not trainable(flows["inverse"].denoiser, flows["grid"].context_encoder)
    terms = guide_losses(states, make_generator(0, "x"), FULL, ContextContrast())
    assert set(terms) == {"grid given inverse", "contrast inverse-grid"}


def test_one_generator_state_is_one_step(new_flow):
    flows = {name: new_flow(name) for name in ("vector", "grid")}
    for flow in flows.values():
        flow.attach()
    states = {name: flow.state(slice(0, 16)) for name, flow in flows.items()}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, third = (
        guide_losses(states, make_generator(seed, "x"), FULL, ContextContrast()) for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.get_rng_state()), "global randomness is left alone"
    for name, value in first.items():
        assert torch.equal(value, second[name])
        assert not torch.equal(value, third[name])


def test_contrast_needs_its_module(new_flow):
    flows = {name: new_flow(name) for name in ("vector", "grid")}
    states = {name: flow.state(slice(0, 4)) for name, flow in flows.items()}
    with pytest.raises(ValueError, match="ContextContrast of the round"):
        guide_losses(states, make_generator(0, "x"), FULL)


def test_a_dropped_partner_is_replaced_by_f_whatever_its_latent(new_flow, randomised):
    """With every partner dropped, a pair's loss is that of f alone: another partner latent changes nothing (E12)."""
    flows = {name: new_flow(name) for name in ("vector", "grid")}
    for flow in flows.values():
        randomised(flow.attach(), std=0.3)
    states = {name: flow.state(slice(0, 16)) for name, flow in flows.items()}
    drop = PLAIN.model_copy(update={"partner_drop": 0.999999})
    other = {**states, "grid": replace(states["grid"], latent=states["grid"].latent.flip(0))}
    first, second = (guide_losses(one, make_generator(0, "x"), drop)["vector given grid"] for one in (states, other))
    assert torch.equal(first, second)
    with torch.no_grad():
        flows["grid"].context_encoder.f_B.phi_s.add_(1.0)
    changed = guide_losses(states, make_generator(0, "x"), drop)["vector given grid"]
    assert not torch.equal(first, changed), "f is what is read"
    changed_context = guide_losses(other, make_generator(0, "x"), PLAIN)["vector given grid"]
    assert not torch.equal(changed_context, guide_losses(states, make_generator(0, "x"), PLAIN)["vector given grid"])
