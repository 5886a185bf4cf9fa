"""Guidance by prompts and partners: closed forms with networks that are linear in what they read (method E6, F8)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.config.recipe import SamplerChoice
from core.generate.guidance import (
    PLAIN,
    Branch,
    Guidance,
    branch_weights,
    guided_prediction,
    predict_branches,
    rescaled,
    rescaled_prediction,
    stacked,
)
from core.generate.joint_sampling import Contexts, Output, joint_predictions, sample_jointly
from core.nn import Parameterisation, alpha_sigma
from core.types import Conditioning, Context, PatientGrid

NONE, PROMPT, PARTNER = Branch(False, False), Branch(True, False), Branch(False, True)
LEVEL = torch.tensor(0.0)


class Linear:
    """Predicts ``z + the visible part of the prompt + 10 times that of the context``, and counts its forwards."""

    latent_shape = (2,)

    def __init__(self):
        self.rows = []

    def __call__(self, z, level, conditioning):
        self.rows.append(len(z))
        prompt, context = conditioning.prompt[..., 0], conditioning.context
        mask = torch.ones_like(prompt) if conditioning.prompt_mask is None else conditioning.prompt_mask
        total = (prompt * mask).sum(1)
        if context is not None:
            added = 10 * (context.tokens[..., 0] * context.mask).sum(1)
            total = total + added.repeat(len(z) // len(added))  # branches may share a context
        return z + total[:, None]


def prompted(*values, rows=3):
    """A prompt of one token per value; the effect on `Linear` is their sum."""
    return Conditioning(prompt=torch.tensor(values).view(1, -1, 1).expand(rows, -1, -1))


def context(value, present, rows=3):
    """A context of a null token, a latent token and a token of adaptation; the effect on `Linear` is 10 times."""
    tokens = torch.tensor([0.0, value, 0.5]).view(1, 3, 1).expand(rows, -1, -1)
    mask = torch.tensor([True, present, True]).expand(rows, -1)
    return Context(
        tokens=tokens,
        mask=mask,
        position_mm=torch.zeros(rows, 3, 3),
        axes=torch.zeros(rows, 3, 3, dtype=torch.bool),
    )


CONTEXTS = Contexts(present={"b": context(0.25, True)}, absent={"b": context(0.25, False)})
Z = torch.arange(6.0).view(3, 2)
P_NULL, P_PROMPT = 1.0, 3.0  # what null prompt and prompt add
C_NONE, C_PARTNER = 5.0, 7.5  # what no partner (f alone) and the partner add


def near(found, expected):
    return bool((found - expected).abs().max() < 1e-5 * expected.abs().max().clamp(min=1))


def output(**more):
    settings = {"denoiser": Linear(), "prompted": prompted(2.0, 1.0), "null": prompted(1.0)}
    return Output(**{**settings, **more})


def predicted(one, senders=("b",), level=LEVEL):
    return joint_predictions({"a": one}, {"a": senders}, CONTEXTS, {"a": (Z, level)}, ["a"])["a"]


@pytest.mark.parametrize("order", ["prompt_first", "context_first"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, 7.0])
@pytest.mark.parametrize("context_scale", [0.0, 1.0, 2.5, 3.0])
def test_the_formula_on_a_linear_model(order, scale, context_scale):
    """A model that adds what prompt and partner say is shifted by each as often as its scale says (F8)."""
    one = output(guidance=Guidance(scale=scale, context_scale=context_scale, order=order))
    shift = P_NULL + scale * (P_PROMPT - P_NULL) + C_NONE + context_scale * (C_PARTNER - C_NONE)
    assert torch.allclose(predicted(one), Z + shift)


def test_guidance_of_one_scale_by_hand():
    """At scale 1 it is the conditional half, at 0 the unconditional one (Ho & Salimans 2022)."""
    predictions = {PARTNER: torch.tensor([1.0, 2.0]), PLAIN: torch.tensor([3.0, 1.0])}
    for scale, expected in ((1.0, [3.0, 1.0]), (0.0, [1.0, 2.0]), (7.5, [16.0, -5.5])):
        assert guided_prediction(predictions, branch_weights(scale, 1.0)).tolist() == expected


def test_weights_of_the_formula_by_hand():
    assert branch_weights(7.0, 3.0, "prompt_first") == {NONE: -6.0, PROMPT: 4.0, PLAIN: 3.0}
    assert branch_weights(7.0, 3.0, "context_first") == {NONE: -2.0, PARTNER: -4.0, PLAIN: 7.0}
    assert branch_weights(7.0, 1.0, "context_first") == {PARTNER: -6.0, PLAIN: 7.0}, "the guidance of the papers"


@pytest.mark.parametrize("order", ["prompt_first", "context_first"])
def test_equal_branches_collapse(order):
    assert branch_weights(1.0, 1.0, order) == {PLAIN: 1.0}
    assert branch_weights(3.0, 3.0, order) == {NONE: -2.0, PLAIN: 3.0}
    assert branch_weights(7.0, 3.0, order, prompted=False) == {PROMPT: -2.0, PLAIN: 3.0}
    assert branch_weights(7.0, 3.0, order, coupled=False) == {PARTNER: -6.0, PLAIN: 7.0}
    assert branch_weights(7.0, 3.0, order, prompted=False, coupled=False) == {PLAIN: 1.0}
    assert len(branch_weights(0.0, 1.0, "context_first")) == 1


def test_scales_of_1_are_the_plain_model_in_one_forward():
    one = output(guidance=Guidance(rescale=0.7))
    assert torch.equal(predicted(one), Z + P_PROMPT + C_PARTNER)
    assert one.denoiser.rows == [3]


@pytest.mark.parametrize(
    ("guidance", "senders", "rows"),
    [
        (Guidance(scale=7.0, context_scale=3.0), ("b",), [9]),
        (Guidance(scale=3.0, context_scale=3.0), ("b",), [6]),
        (Guidance(scale=7.0), ("b",), [6]),
        (Guidance(scale=7.0, order="prompt_first"), ("b",), [9]),
        (Guidance(scale=7.0, context_scale=3.0), (), [6]),
    ],
)
def test_a_branch_of_weight_0_is_not_computed(guidance, senders, rows):
    one = output(guidance=guidance)
    predicted(one, senders)
    assert one.denoiser.rows == rows


def test_without_a_prompt_only_the_context_is_guided():
    null = prompted(1.0)
    one = output(prompted=null, null=null, guidance=Guidance(scale=7.0, context_scale=3.0))
    assert torch.allclose(predicted(one), Z + P_NULL + C_NONE + 3 * (C_PARTNER - C_NONE))
    assert one.denoiser.rows == [6]


def test_without_a_trained_branch_of_absent_partners_the_context_is_left_out():
    one = output(absent=False, guidance=Guidance(context_scale=3.0, order="prompt_first"))
    assert torch.allclose(predicted(one), Z + P_PROMPT + 3 * C_PARTNER)
    assert sorted(one.denoiser.rows) == [3, 3], "rows with and without a context are not mixed"


def test_the_outcome_does_not_depend_on_how_branches_are_evaluated():
    conditionings = [replace(prompted(2.0, 1.0), context=CONTEXTS.present["b"]), prompted(1.0)]
    level = LEVEL.expand(3)
    together, singly = (predict_branches(Linear(), Z, level, conditionings, most=most) for most in (8, 0))
    assert all(torch.allclose(a, b) for a, b in zip(together, singly, strict=True))


def test_guidance_of_real_networks_is_equal_stacked_or_not(new_output, new_given, monkeypatch):
    """Attention, positions and adaptation tokens: one forward of nine rows, or three of three."""
    settings = {"guidance": Guidance(scale=3.0, context_scale=2.0)}
    outputs = {name: new_output(name, **settings) for name in "abd"}
    arguments = {"seed": 1, "indices": (0, 1, 2), "sampler": SamplerChoice(steps=3)}
    together = sample_jointly(outputs, {"c": new_given("c")}, **arguments)
    monkeypatch.setattr(predict_branches, "__kwdefaults__", {"most": 0})
    singly = sample_jointly(outputs, {"c": new_given("c")}, **arguments)
    assert all(near(singly[name], together[name]) for name in outputs)
    assert any(not torch.equal(together[name], singly[name]) for name in outputs), "the two are different computations"


def test_absent_partners_leave_no_trace_of_their_latents(new_output, new_given):
    """At context scale 0 an output depends on which partners take part, not on what they hold."""
    one = {"b": new_output("b", guidance=Guidance(scale=3.0, context_scale=0.0, order="prompt_first"))}
    arguments = {"seed": 1, "indices": (0, 1, 2), "sampler": SamplerChoice(steps=3)}
    given = new_given("c")
    first = sample_jointly(one, {"c": given}, **arguments)["b"]
    other = sample_jointly(one, {"c": replace(given, latent=given.latent.flip(0))}, **arguments)["b"]
    assert torch.equal(first, other)
    dropped = new_given("c", present=torch.zeros(3, dtype=torch.bool))
    plain = {"b": new_output("b", guidance=Guidance(scale=3.0))}
    assert torch.allclose(first, sample_jointly(plain, {"c": dropped}, **arguments)["b"], atol=1e-5)


def test_a_sample_does_not_depend_on_its_batch_under_guidance(new_output, new_given):
    settings = {"guidance": Guidance(scale=3.0, context_scale=2.0, rescale=0.5)}
    sampler = SamplerChoice(steps=3)
    outputs = {name: new_output(name, batch=9, **settings) for name in "ab"}
    nine = sample_jointly(outputs, {"c": new_given("c", batch=9)}, seed=1, indices=range(9), sampler=sampler)
    for row in (0, 8):
        partner = new_given("c", batch=9)
        alone = sample_jointly(
            {name: new_output(name, batch=1, **settings) for name in "ab"},
            {"c": replace(partner, latent=partner.latent[row : row + 1])},
            seed=1,
            indices=(row,),
            sampler=sampler,
        )
        assert all(near(alone[name][0], nine[name][row]) for name in "ab")


def test_guidance_acts_in_its_interval_alone():
    """The noise levels of Kynkaanniemi et al. 2024 for EDM-XXL, sigma 0.28 to 5.42, are log-SNR 2.5 to -3.4."""
    guidance = Guidance(scale=3.0, context_scale=2.0, interval=(-3.4, 2.5))
    shift = P_NULL + 3 * (P_PROMPT - P_NULL) + C_NONE + 2 * (C_PARTNER - C_NONE)
    for sigma, guided in ((0.1, False), (0.27, False), (0.3, True), (5.4, True), (5.5, False), (80.0, False)):
        one = output(guidance=guidance)
        level = torch.tensor(-2 * math.log(sigma))
        assert torch.allclose(predicted(one, level=level), Z + (shift if guided else P_PROMPT + C_PARTNER))
        assert one.denoiser.rows == ([9] if guided else [3])


def test_an_interval_counts_the_steps_of_sampling():
    one = output(guidance=Guidance(scale=3.0, interval=(-10.0, 0.0)))
    sample_jointly({"a": one}, {}, seed=0, indices=(0, 1, 2), sampler=SamplerChoice(steps=4))
    assert one.denoiser.rows == [6, 6, 6, 3], "log-SNR -5.4, -2.8, -1.0 and 0.7"


def test_rescaling_by_hand():
    guided = torch.tensor([[0.0, 4.0], [1.0, 1.0 + 2**0.5]])
    plain = torch.tensor([[10.0, 11.0], [0.0, 2.0]])
    half = torch.tensor([[0.0, 4 * (0.5 / 4 + 0.5)], [1.0, 1 + 2**0.5]]) * torch.tensor([[1.0], [0.5 * 2**0.5 + 0.5]])
    assert torch.allclose(rescaled(guided, plain, 0.5), half)
    assert torch.allclose(rescaled(guided, plain, 1.0).std(1), plain.std(1))
    assert torch.equal(rescaled(guided, plain, 0.0), guided)


def test_guidance_is_the_weighted_sum_of_the_branches():
    predictions = {NONE: torch.tensor([[0.0, 1.0]]), PLAIN: torch.tensor([[0.0, 3.0]])}
    assert torch.allclose(guided_prediction(predictions, {NONE: -1.0, PLAIN: 2.0}), torch.tensor([[0.0, 5.0]]))
    assert guided_prediction(predictions, {PLAIN: 1.0}) is predictions[PLAIN]


@pytest.mark.parametrize("level", [-3.0, 0.0, 3.0])
def test_rescaling_is_the_same_in_every_parameterisation(level):
    """The clean estimate is rescaled, whether a network predicts it, the noise, or anything between."""
    draws = torch.Generator().manual_seed(0)
    z, guided, plain = torch.randn(3, 4, 6, generator=draws) * torch.tensor([1.0, 3.0, 1.0]).view(3, 1, 1)
    at, expected = torch.tensor(level), rescaled(guided, plain, 0.7)
    alpha, sigma = alpha_sigma(at)
    for objective in ("epsilon", "v", "clean", "rectified_flow"):
        parameterisation = Parameterisation(objective)
        first, second = (parameterisation.target(x, (z - alpha * x) / sigma, at) for x in (guided, plain))
        result = rescaled_prediction(first, second, z, at, parameterisation, 0.7)
        assert torch.allclose(parameterisation.to_clean(z, result, at), expected, atol=1e-4)


def test_pure_noise_is_rescaled_too():
    """At log-SNR minus infinity a velocity is minus the clean latent (Lin et al. 2024)."""
    z, guided, plain = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    result = rescaled_prediction(guided, plain, z, torch.tensor(-torch.inf), Parameterisation("v"), 1.0)
    assert torch.allclose(result, rescaled(guided, plain, 1.0), atol=1e-6)


def test_the_plain_model_is_computed_for_rescaling_where_its_weight_is_0():
    one = output(guidance=Guidance(scale=0.0, context_scale=2.0, rescale=1.0))
    clean = Parameterisation().to_clean(Z, predicted(one), LEVEL)
    plain = Parameterisation().to_clean(Z, Z + P_PROMPT + C_PARTNER, LEVEL)
    assert torch.allclose(clean.std(1), plain.std(1), atol=1e-5)
    assert one.denoiser.rows == [9]


def test_single_prompts_with_weights_are_composed():
    """Liu et al. 2022: each prompt shifts the prediction by its weight times the scale (method E4, E6)."""
    one = output(
        components=((0.75, prompted(3.0)), (0.25, prompted(5.0))), guidance=Guidance(scale=4.0, context_scale=2.0)
    )
    shift = P_NULL + 4 * (0.75 * 3 + 0.25 * 5 - P_NULL) + C_NONE + 2 * (C_PARTNER - C_NONE)
    assert torch.allclose(predicted(one), Z + shift)


def test_what_stands_for_the_null_prompt_changes_the_unconditional_half_alone():
    plain, negative = (output(null=null, guidance=Guidance(scale=1.0)) for null in (prompted(1.0), prompted(9.0)))
    assert torch.equal(predicted(plain), predicted(negative)), "at scale 1 there is no unconditional half"
    negative = replace(negative, guidance=Guidance(scale=3.0))
    assert torch.allclose(predicted(negative), Z + 9 + 3 * (P_PROMPT - 9) + C_PARTNER)


def test_stacked_prompts_are_padded_with_masked_tokens():
    short, long = (
        prompted(1.0),
        Conditioning(prompt=torch.ones(3, 2, 1), prompt_mask=torch.tensor([[True, False]]).expand(3, -1)),
    )
    both = stacked([short, long])
    assert both.prompt.shape == (6, 2, 1)
    assert both.prompt_mask is not None
    assert both.prompt_mask.tolist() == [[True, False]] * 6
    assert stacked([short]) is short


def test_branches_share_the_context_that_all_of_them_read():
    shared = replace(prompted(1.0), context=CONTEXTS.present["b"])
    assert stacked([shared, shared]).context is shared.context
    summary = torch.tensor([[1.0], [2.0], [3.0]])
    grid = PatientGrid(cells=(None, None, None), order=())
    other = replace(shared, context=replace(CONTEXTS.present["b"], aligned={grid: summary}, summary=summary))
    both = stacked([other, replace(other, context=replace(other.context, summary=-summary))]).context
    assert [len(both.tokens), len(both.aligned[grid])] == [6, 6]
    assert both.summary[:, 0].tolist() == [1, 2, 3, -1, -2, -3]
