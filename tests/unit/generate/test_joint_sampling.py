"""Joint sampling: who reads what, guidance halves, seeds, clean partners, any number of outputs (E16, F1, F3, F4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.config.recipe import SamplerChoice
from core.errors import UserError
from core.generate.guidance import Guidance
from core.generate.joint_sampling import (
    Contexts,
    Output,
    absent_contexts,
    current_contexts,
    delayed_schedule,
    joint_predictions,
    lead_delays,
    resolve_partners,
    sample_jointly,
    sample_noise,
)
from core.guide.attention import attach_guidance
from core.io.geometry import centred
from core.nn import GridDenoiserConfig, VectorDenoiserConfig
from core.types import Conditioning

DDIM = SamplerChoice(solver="ddim", steps=4, eta=1.0)
LEVEL = torch.tensor(-1.0)
CONTEXT_WIDTH = 16
GEOMETRY = {
    "a": None,
    "b": centred((8, 8), (40.0, 40.0), "IL"),
    "d": centred((8, 8, 8), (40.0, 40.0, 40.0), "SPL"),
}


def latents_of(outputs: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    draws = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(3, *output.denoiser.latent_shape, generator=draws), LEVEL)
        for name, output in outputs.items()
    }


@torch.no_grad()
def eps(outputs, state, partners=None, half=None):
    """Predictions of all flows; of the ``null`` or the ``prompted`` half alone, or guided."""
    if half is not None:
        plain = {"guidance": Guidance(scale=float(half == "prompted"))}
        outputs = {name: replace(output, **plain) for name, output in outputs.items()}
    senders = resolve_partners(outputs, {}, partners)
    rows = len(next(iter(state.values()))[0])
    contexts = Contexts(
        present=current_contexts(outputs, state, outputs), absent=absent_contexts(outputs, {}, senders, rows)
    )
    return joint_predictions(outputs, senders, contexts, state, list(outputs))


def sample(outputs, given=None, indices=(0, 1, 2), sampler=DDIM, seed=7, partners=None):
    return sample_jointly(outputs, given or {}, seed=seed, indices=indices, sampler=sampler, partners=partners)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_flow_reads_its_partners_current_latents(new_output):
    outputs = {name: new_output(name) for name in "ab"}
    at = latents_of(outputs)
    moved = {**at, "b": (at["b"][0] + 1, LEVEL)}
    assert (eps(outputs, at)["a"] - eps(outputs, moved)["a"]).abs().max() > 1e-4


def test_its_own_context_changes_nothing_in_a_flow(new_output, new_context_encoder_of):
    """The defect of the published code: flow i attends to its own vector (F1)."""
    outputs = {name: new_output(name) for name in "abc"}
    at = latents_of(outputs)
    for name in outputs:
        swapped = {**outputs, name: replace(outputs[name], context_encoder=new_context_encoder_of(name, seed=99))}
        before, after = eps(outputs, at), eps(swapped, at)
        assert torch.equal(before[name], after[name])
        assert all((before[other] - after[other]).abs().max() > 1e-5 for other in outputs if other != name)
    alone = {"a": outputs["a"]}
    assert torch.equal(eps(outputs, at, partners={})["a"], eps(alone, latents_of(alone))["a"])


def test_no_flow_is_its_own_partner(new_output):
    outputs = {name: new_output(name) for name in "ab"}
    assert resolve_partners(outputs, {}, {"a": ["a", "b"], "b": ["b"]}) == {"a": ["b"], "b": []}


def test_guidance_halves_are_isolated(new_output):
    """The unconditional half of A does not move by a bit when B's conditional half does (E16)."""
    outputs = {name: new_output(name) for name in "ab"}
    at = latents_of(outputs)
    prompted = replace(outputs["b"].prompted, prompt=outputs["b"].prompted.prompt * -3 + 1)
    perturbed = {**outputs, "b": replace(outputs["b"], prompted=prompted)}
    assert same(eps(outputs, at, half="null"), eps(perturbed, at, half="null"))
    assert torch.equal(eps(outputs, at)["a"], eps(perturbed, at)["a"])
    assert not torch.equal(eps(outputs, at)["b"], eps(perturbed, at)["b"])
    null = {**outputs, "b": replace(outputs["b"], null=prompted)}
    assert same(eps(outputs, at, half="prompted"), eps(null, at, half="prompted"))


@pytest.mark.parametrize("batch", [3, 9])
def test_the_halves_go_through_a_denoiser_together_where_the_batch_is_small(new_output, monkeypatch, batch):
    outputs = {name: new_output(name, batch=batch) for name in "ab"}
    seen = []
    for name, output in outputs.items():
        forward = output.denoiser.forward

        def spy(z, level, conditioning, name=name, forward=forward):
            seen.append((name, len(z), len(conditioning.prompt)))
            return forward(z, level, conditioning)

        monkeypatch.setattr(output.denoiser, "forward", spy)
    draws = torch.Generator().manual_seed(0)
    at = {
        name: (torch.randn(batch, *output.denoiser.latent_shape, generator=draws), LEVEL)
        for name, output in outputs.items()
    }
    eps(outputs, at)
    together = [(name, 6, 6) for name in "ab"]
    assert seen == (together if batch == 3 else [(name, 9, 9) for name in "ab" for _ in range(2)])


def test_guidance_is_that_of_the_halves(new_output):
    outputs = {"a": new_output("a", scale=3.0), "b": new_output("b", scale=1.0), "c": new_output("c", scale=0.0)}
    at = latents_of(outputs)
    null, prompted, guided = eps(outputs, at, half="null"), eps(outputs, at, half="prompted"), eps(outputs, at)
    assert torch.allclose(guided["a"], null["a"] + 3 * (prompted["a"] - null["a"]))
    assert torch.equal(guided["b"], prompted["b"])
    assert torch.equal(guided["c"], null["c"])


@pytest.mark.parametrize(
    "sampler", [DDIM, SamplerChoice(solver="heun", steps=3), SamplerChoice(solver="dpmpp_2m", steps=5)]
)
def test_at_the_start_joint_is_independent_exactly(new_output, sampler):
    outputs = {name: new_output(name, trained=False) for name in "abc"}
    together = sample(outputs, sampler=sampler)
    for name, output in outputs.items():
        assert torch.equal(together[name], sample({name: output}, sampler=sampler)[name])
    assert same(together, sample(outputs, sampler=sampler, partners={}))


@pytest.mark.parametrize("names", ["abc", "abcd"])
@pytest.mark.parametrize("solver", ["ddim", "euler", "heun", "dpmpp_2m"])
def test_three_and_four_outputs_at_once(new_output, names, solver):
    outputs = {name: new_output(name) for name in names}
    sampler = SamplerChoice(solver=solver, steps=4)
    together = sample(outputs, sampler=sampler)
    assert {name: tuple(z.shape[1:]) for name, z in together.items()} == {
        name: output.denoiser.latent_shape for name, output in outputs.items()
    }
    assert all(z.isfinite().all() for z in together.values())
    alone = {name: sample({name: output}, sampler=sampler)[name] for name, output in outputs.items()}
    assert all((together[name] - alone[name]).abs().max() > 1e-3 for name in names), "they do influence each other"
    turned = sample(dict(reversed(outputs.items())), sampler=sampler)
    sizes = {name: z.abs().max() for name, z in together.items()}
    differences = {name: (together[name] - turned[name]).abs().max() for name in names}
    assert all(differences[name] < 1e-5 * sizes[name] for name in names), "their order is irrelevant"


def test_only_named_partners_are_read(new_output, new_context_encoder_of):
    outputs = {name: new_output(name) for name in "abc"}
    partners = {"a": ["b"]}
    changed = {**outputs, "c": replace(outputs["c"], context_encoder=new_context_encoder_of("c", seed=9))}
    assert same(sample(outputs, partners=partners), sample(changed, partners=partners))
    assert not torch.equal(sample(outputs, partners=partners)["a"], sample(outputs)["a"])
    assert torch.equal(sample(outputs, partners=partners)["b"], sample({"b": outputs["b"]})["b"])


def test_a_clean_partner_is_read_and_left_as_it_is(new_output, new_given):
    outputs, given = {"b": new_output("b"), "a": new_output("a")}, {"c": new_given("c")}
    before = given["c"].latent.clone()
    first = sample(outputs, given)
    assert set(first) == {"a", "b"}
    assert torch.equal(given["c"].latent, before)
    assert (first["b"] - sample(outputs)["b"]).abs().max() > 1e-3
    other = {"c": replace(given["c"], latent=given["c"].latent.flip(0))}
    assert (first["b"] - sample(outputs, other)["b"]).abs().max() > 1e-3
    assert given["c"].context().mask.all()


def test_a_partner_may_be_absent_for_some_samples(new_output, new_given):
    outputs = {"b": new_output("b")}
    present = torch.tensor([True, False, True])
    first = sample(outputs, {"c": new_given("c", present=present)})["b"]
    changed = new_given("c", present=present)
    changed = replace(changed, latent=changed.latent + torch.tensor([0.0, 5.0, 0.0]).view(3, 1, 1, 1))
    assert torch.equal(first, sample(outputs, {"c": changed})["b"]), "what is absent is not read"
    everyone = sample(outputs, {"c": new_given("c")})["b"]
    assert torch.allclose(first[present], everyone[present], atol=1e-5)
    assert (first[1] - everyone[1]).abs().max() > 1e-4, "f stands for it"


def test_noise_depends_on_seed_index_flow_and_step_alone():
    whole = sample_noise(3, [0, 1, 2, 3], "a", 5, (2, 4))
    assert torch.equal(whole[2:3], sample_noise(3, [2], "a", 5, (2, 4)))
    assert torch.equal(whole[[3, 1]], sample_noise(3, [3, 1], "a", 5, (2, 4)))
    for other in ((4, [2], "a", 5), (3, [1], "a", 5), (3, [2], "b", 5), (3, [2], "a", 6), (3, [2], "a", "start")):
        assert not torch.equal(whole[2:3], sample_noise(*other, (2, 4)))
    assert abs(float(sample_noise(0, range(500), "a", 0, (20,)).std()) - 1) < 0.02


def test_a_sample_does_not_depend_on_its_batch(new_output, new_given):
    everyone = sample({name: new_output(name) for name in "abc"}, {"d": new_given("d")}, indices=(0, 1, 2))
    for row in range(3):
        outputs = {name: new_output(name, batch=1) for name in "abc"}
        partner = new_given("d")
        alone = sample(outputs, {"d": replace(partner, latent=partner.latent[row : row + 1])}, indices=(row,))
        assert all((alone[name][0] - everyone[name][row]).abs().max() < 1e-4 for name in "abc")


def test_sampling_is_repeatable_and_leaves_global_randomness_alone(new_output):
    outputs = {name: new_output(name) for name in "ab"}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = sample(outputs)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    assert same(first, sample(outputs))
    assert not same(first, sample(outputs, seed=8))
    assert not any(z.requires_grad for z in first.values())


def test_an_output_may_take_fewer_steps(new_output):
    outputs = {"a": new_output("a", steps=2), "b": new_output("b")}
    calls = {"a": 0, "b": 0}
    for name, output in outputs.items():
        output.denoiser.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    latents = sample(outputs, sampler=SamplerChoice(steps=4))
    assert calls == {"a": 2, "b": 4}, "both halves at once in every step"
    assert all(z.isfinite().all() for z in latents.values())


def test_an_output_that_leads_is_a_clean_partner_of_the_others(new_output, new_given):
    """Wholly ahead, it does not differ from a given modality for those that follow (F3)."""
    outputs = {name: new_output(name) for name in "bc"}
    sampler = SamplerChoice(solver="dpmpp_2m", steps=4, lead={"c": 1.0})
    together = sample(outputs, sampler=sampler, partners={"b": ["c"], "c": []})
    alone = sample({"c": outputs["c"]}, sampler=sampler)
    assert torch.allclose(together["c"], alone["c"], atol=1e-5)
    partner = {"c": replace(new_given("c"), latent=together["c"])}
    follows = sample({"b": outputs["b"]}, partner, sampler=SamplerChoice(solver="dpmpp_2m", steps=4))
    assert torch.allclose(together["b"], follows["b"], atol=1e-4)


@pytest.mark.parametrize("solver", ["ddim", "euler", "heun", "dpmpp_2m"])
def test_outputs_that_lead_by_some_steps_take_as_many_steps(new_output, solver):
    outputs = {name: new_output(name, scale=1.0) for name in "abc"}
    seen = {name: [] for name in outputs}
    for name, output in outputs.items():
        output.denoiser.register_forward_pre_hook(lambda _, arguments, name=name: seen[name].append(arguments[1][0]))
    plain = sample(outputs, sampler=SamplerChoice(solver=solver, steps=4))
    levels = {name: [float(level) for level in found] for name, found in seen.items()}
    for found in seen.values():
        found.clear()
    lead = SamplerChoice(solver=solver, steps=4, lead={"a": 0.5, "b": 0.25})
    ahead = sample(outputs, sampler=lead)
    assert {name: [float(level) for level in found] for name, found in seen.items()} == levels
    assert all((ahead[name] - plain[name]).abs().max() > 1e-3 for name in "abc"), "they read other levels"
    assert all(z.isfinite().all() for z in ahead.values())


def test_steps_of_outputs_that_lead():
    assert lead_delays("abc", 8, {"a": 0.5, "b": 0.25}) == [0, 2, 4]
    assert lead_delays("abc", 8, {}) == lead_delays("abc", 8, {"d": 0.5}) == [0, 0, 0]
    rows = delayed_schedule(torch.tensor([-5.0, 0.0, torch.inf]), [0, 2]).tolist()
    assert rows == [[-5.0, 0.0, torch.inf, torch.inf, torch.inf], [-5.0, -5.0, -5.0, 0.0, torch.inf]]


def test_stock_denoisers_sample_together(new_context_encoder_of, randomised):
    """A 0-D, a 2-D and a 3-D UNet at once, prompts of other lengths in the two halves, a padded prompt."""
    torch.manual_seed(0)
    sizes = {"widths": (16, 32), "attention": (False, True), "num_blocks": 1, "head_width": 8, "norm_groups": 8}
    configs = {
        "a": VectorDenoiserConfig(
            width=3, model_width=16, prompt_width=8, multipliers=(1,), attention=(True,), num_heads=2, norm_groups=8
        ),
        "b": GridDenoiserConfig(channels=2, space=(4, 4), prompt_width=8, **sizes),
        "d": GridDenoiserConfig(channels=2, space=(2, 2, 2), prompt_width=8, **sizes),
    }
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    prompted = Conditioning(prompt=torch.randn(2, 4, 8), prompt_mask=mask)
    outputs = {}
    for name, config in configs.items():
        denoiser = config.build().eval()
        randomised(attach_guidance(denoiser, GEOMETRY[name], context_width=CONTEXT_WIDTH), 0, 0.3)
        null = Conditioning(prompt=prompted.prompt[:, :1])
        outputs[name] = Output(
            denoiser=denoiser,
            prompted=prompted,
            null=null,
            guidance=Guidance(scale=2.0, context_scale=3.0),
            context_encoder=new_context_encoder_of(name),
        )
    first = sample(outputs, indices=(0, 1), sampler=SamplerChoice(steps=2))
    assert all(z.isfinite().all() for z in first.values())
    other = torch.where(mask[..., None], prompted.prompt, 7.0)
    outputs = {name: replace(one, prompted=replace(prompted, prompt=other)) for name, one in outputs.items()}
    padded = sample(outputs, indices=(0, 1), sampler=SamplerChoice(steps=2))
    assert all((first[name] - padded[name]).abs().max() < 1e-4 for name in first), "padding changes nothing"


def test_wrong_partners_are_refused_as_single_line(new_output, new_given):
    outputs = {name: new_output(name) for name in "ab"}
    with pytest.raises(UserError, match="'b' is both given and to be generated"):
        sample(outputs, {"b": new_given("b")})
    with pytest.raises(UserError, match="no output 'c'"):
        sample(outputs, partners={"c": ["a"]})
    with pytest.raises(UserError, match="no partner of 'a' 'd'"):
        sample(outputs, partners={"a": ["d"]})
    with pytest.raises(UserError, match="'a' has 3"):
        sample(outputs, indices=(0, 1))
    with pytest.raises(UserError, match="no output"):
        sample({})
    with pytest.raises(UserError, match="solver 'euler' draws no noise"):
        sample(outputs, sampler=SamplerChoice(solver="euler", steps=2, eta=0.5))
