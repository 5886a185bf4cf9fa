"""E6c, E12, E13, E14 and F3 against their equations written out."""

import math

import pytest
import torch
import torch.nn.functional as F

from core.config.recipe import GuideChoice
from core.contract.modality import Site
from core.diffuse.objective import Diffusion, noised
from core.flow.prompt_sources import guide_sources
from core.guide.attention import GuidanceAttention, attach_guidance
from core.guide.context_encoder import AdaptationTokens, ContextEncoder, draw_parameters
from core.guide.draws import (
    JOINS,
    draw_prompting,
    draw_readers,
    draw_study_levels,
    hide_prompting,
    without_prompting_readers,
)
from core.guide.losses import (
    ContextContrast,
    FlowState,
    at_level,
    clean_estimate,
    cross_guidance_mse,
    encode_context,
)
from core.guide.noisy_study import guide_losses
from core.guide.train import draw_guide_prompt
from core.nn import log_snr_of_timestep
from core.testing.toy_nets import ToyDenoiser
from core.types import Conditioning, Geometry, LatentSpec, Prompt

PLAIN = GuideChoice(context="spatial")
VOLUME = Geometry(affine=torch.diag(torch.tensor([20.0, 30.0, 40.0, 1.0])).numpy(), shape=(2, 2, 2))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randomise(module, std=0.2):
    draws = generator(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=draws))
    return module


def flow(channels, seed, adaptation=None):
    torch.manual_seed(seed)
    context_encoder = ContextEncoder(LatentSpec(channels=channels, space=()), None, width=16, adaptation=adaptation)
    denoiser = ToyDenoiser(channels, (), 16, 8)
    randomise(attach_guidance(denoiser, None, context_width=16))
    return FlowState(
        latent=torch.randn(6, channels, generator=generator(seed)),
        denoiser=denoiser,
        context_encoder=context_encoder,
        conditioning=Conditioning(prompt=torch.ones(6, 1, 8)),
    )


def levels_of(num, batch, draws, choice):
    return draw_study_levels(num, batch, draws, choice, Diffusion().draw_levels)


# E6c -----------------------------------------------------------------------------------------------------------------
def test_a_prompt_comes_from_neither_the_target_nor_its_partners():
    assert guide_sources("a", ["b"], ["a", "b", "c", "d"]) == ("c", "d")
    assert guide_sources("a", ["b", "c"], ["b", "c"]) == ()


def test_the_prompt_is_null_half_of_the_time_and_always_where_none_is_left():
    subset, drop = draw_guide_prompt((), 5, generator(), null=0.0)
    assert subset == ()
    assert drop.all()
    subset, drop = draw_guide_prompt(("c", "d"), 4000, generator(), null=0.5)
    assert set(subset) <= {"c", "d"}
    assert float(drop.float().mean()) == pytest.approx(0.5, abs=0.03)


# E12 -----------------------------------------------------------------------------------------------------------------
def test_parameters_are_drawn_from_real_tokens_at_random():
    tokens = torch.arange(24.0).view(2, 4, 3)
    mask = torch.tensor([[True, True, False, True], [True, True, True, False]])
    prompt = Prompt(tokens=tokens, pooled=tokens[:, 0], mask=mask)
    real = {tuple(row) for row in [*tokens[0, [1, 3]].tolist(), *tokens[1, [1, 2]].tolist()]}
    drawn = draw_parameters(prompt, 4, generator())
    assert {tuple(row) for row in drawn.tolist()} == real, "each once, none that is null or masked"
    assert not torch.equal(drawn, draw_parameters(prompt, 4, generator(1)))
    assert draw_parameters(prompt, 6, generator()).shape == (6, 3)


def test_f_is_the_embedding_of_the_drawn_parameters():
    f = AdaptationTokens(4, 3, 5)
    tokens = torch.randn(2, 4, 3, generator=generator())
    prompt = Prompt(tokens=tokens, pooled=tokens[:, 0], mask=torch.ones(2, 4, dtype=torch.bool))
    f.draw_from(prompt, generator(2))
    phi_s = draw_parameters(prompt, 4, generator(2))
    assert torch.allclose(f(), phi_s @ f.F_emb.weight.T + f.F_emb.bias)
    assert all(parameter.requires_grad for parameter in f.parameters())


# E13 -----------------------------------------------------------------------------------------------------------------
def test_the_attention_is_the_equation_with_positions():
    """softmax over tokens of q.k / sqrt(d) + sum over known axes and wavelengths of gain cos(2 pi distance / wave)."""
    from core.guide.positions import WAVELENGTHS_MM
    from core.types import Context

    module = randomise(GuidanceAttention(Site("s", 16, (2, 2, 2)), VOLUME, 12))
    hidden = torch.randn(3, 8, 16, generator=generator(1))
    axes = torch.tensor([[False] * 3, [True, False, True], [True] * 3]).expand(3, 3, 3)
    position = torch.randn(3, 3, 3, generator=generator(2)) * 40 * axes
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    context = Context(tokens=torch.randn(3, 3, 12, generator=generator(3)), mask=mask, position_mm=position, axes=axes)
    own = torch.tensor([[r * 20.0, a * 30.0, s * 40.0] for r in (0, 1) for a in (0, 1) for s in (0, 1)])
    distance = own[None, :, None] - position[:, None]  # batch query token axis
    wave = torch.cos(2 * math.pi * distance[..., None] / torch.tensor(WAVELENGTHS_MM)) * axes[:, None, :, :, None]
    near = torch.einsum("bqtaw,hw->bhqt", wave, module.gain)
    partners = module.norm_context(context.tokens)
    query = module.to_query(module.norm_hidden(hidden) + module.position_embedding(module.query_features))
    by_head = lambda x: x.unflatten(-1, (module.num_heads, -1)).transpose(1, 2)  # noqa: E731
    q, k, v = by_head(query), by_head(module.to_key(partners)), by_head(module.to_value(partners))
    scores = (q @ k.mT / q.shape[-1] ** 0.5 + near).masked_fill(~mask[:, None, None], -torch.inf)
    expected = module.to_update((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(module(hidden, context), expected, atol=1e-5)


def test_the_loss_is_the_equation_in_both_directions():
    a, b = flow(3, 1), flow(5, 2)
    terms = guide_losses({"a": a, "b": b}, generator(7), PLAIN)
    draws = generator(7)
    (level, clean), _ = levels_of(2, 6, draws, PLAIN)
    eps_a = torch.randn(6, 3, generator=draws)
    eps_b = torch.randn(6, 5, generator=draws)
    z_a, z_b = noised(a.latent, level, eps_a), noised(b.latent, level, eps_b)

    def loss(x, z, eps, other, z_other):
        context = other.context_encoder(z_other, level, clean)
        conditioning = Conditioning(prompt=x.conditioning.prompt, context=context)
        return (eps - x.denoiser(z, level, conditioning)).square().mean()

    assert torch.allclose(terms["a given b"], loss(a, z_a, eps_a, b, z_b))
    assert torch.allclose(terms["b given a"], loss(b, z_b, eps_b, a, z_a))
    assert len(terms) == 2


def test_the_cross_guidance_mse_is_per_study():
    a, b = flow(3, 1), flow(5, 2)
    level, no = log_snr_of_timestep(torch.full((6,), 400)), torch.zeros(6, dtype=torch.bool)
    noisy_a, noisy_b = at_level(a.latent, level, no, generator()), at_level(b.latent, level, no, generator(1))
    errors = cross_guidance_mse(a, noisy_a, encode_context(b, noisy_b))
    assert errors.shape == (6,)
    other = encode_context(b, at_level(b.latent.roll(1, 0), level, no, generator(1)))
    assert (errors - cross_guidance_mse(a, noisy_a, other)).abs().max() > 1e-4


def test_a_clean_flow_carries_no_noise_and_is_not_learned_from():
    a, b = flow(3, 1), flow(5, 2)
    clean = torch.tensor([True, False, True, False, False, True])
    noisy = at_level(a.latent, log_snr_of_timestep(torch.full((6,), 900)), clean, generator())
    assert torch.equal(noisy.latent[clean], a.latent[clean])
    assert (noisy.latent - a.latent)[~clean].abs().amin(1).min() > 0
    always = PLAIN.model_copy(update={"clean": 1.0})
    draws = generator(3)
    (level, is_a), (_, is_b) = levels_of(2, 6, generator(3), always)
    assert torch.equal(is_a, ~is_b)
    terms = guide_losses({"a": a, "b": b}, draws, always)
    draws = generator(3)
    levels_of(2, 6, draws, always)
    noisy_a, noisy_b = at_level(a.latent, level, is_a, draws), at_level(b.latent, level, is_b, draws)
    expected = cross_guidance_mse(a, noisy_a, encode_context(b, noisy_b))[~is_a].mean()
    assert torch.allclose(terms["a given b"], expected)


def test_the_clean_estimate_is_the_denoiser_s_and_a_given_latent_stays():
    """Method F9: z = alpha x + sigma eps solved for x with the predicted noise."""
    a = flow(3, 1)
    clean = torch.tensor([True, False, False, True, False, False])
    level = log_snr_of_timestep(torch.full((6,), 600))
    noisy = at_level(a.latent, level, clean, generator())
    estimate = clean_estimate(a, noisy, None)
    with torch.no_grad():
        eps = a.denoiser(noisy.latent, level, a.conditioning)
    alpha, sigma = level.sigmoid().sqrt()[:, None], (-level).sigmoid().sqrt()[:, None]
    assert torch.allclose(estimate[~clean], ((noisy.latent - sigma * eps) / alpha)[~clean], atol=1e-5)
    assert torch.equal(estimate[clean], a.latent[clean])
    assert not estimate.requires_grad


# F3 ------------------------------------------------------------------------------------------------------------------
def test_levels_are_equal_or_independent_for_half_of_the_studies():
    (first, _), (second, _) = levels_of(2, 3000, generator(), PLAIN)
    assert torch.equal(first, second)
    choice = GuideChoice(context="spatial", levels="independent", clean=0.2)
    (first, clean_a), (second, clean_b) = levels_of(2, 6000, generator(), choice)
    assert float((first == second).float().mean()) == pytest.approx(0.5, abs=0.03)
    apart = first != second
    assert abs(float(torch.corrcoef(torch.stack([first[apart], second[apart]]))[0, 1])) < 0.05
    assert not (clean_a & clean_b).any()
    assert float((clean_a | clean_b).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert float(clean_a.float().mean()) == pytest.approx(0.1, abs=0.02)


def test_some_of_three_flows_are_clean_and_never_all():
    choice = GuideChoice(context="spatial", levels="independent", clean=0.6)
    clean = torch.stack([flags for _, flags in levels_of(3, 6000, generator(), choice)])
    number = clean.sum(0)
    assert set(number.tolist()) == {0, 1, 2}
    assert float((number > 0).float().mean()) == pytest.approx(0.6, abs=0.02)
    assert float((number == 1).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert clean.float().mean(1).tolist() == pytest.approx([0.3] * 3, abs=0.02)


# F4, F8, F9 ----------------------------------------------------------------------------------------------------------
def test_a_flow_reads_none_all_or_some_of_the_others_and_never_itself():
    read = draw_readers(4, 8000, generator(), partner_drop=0.2)
    assert not read.diagonal().any()
    number = read.sum(1).float()
    assert float((number == 0).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert float((number == 3).float().mean()) == pytest.approx(0.8 * (0.5 + 0.5 / 3), abs=0.02)
    assert float((number == 1).float().mean()) == pytest.approx(0.8 * 0.5 / 3, abs=0.02)
    pair = draw_readers(2, 8000, generator(), partner_drop=0.2)
    assert float(pair[0, 1].float().mean()) == pytest.approx(0.8, abs=0.02), "of a pair, the other or none"


def test_a_modality_prompts_in_proportion_to_the_flows_that_it_can_prompt():
    draws = generator()
    drawn = [draw_prompting({"a": 3, "b": 0, "c": 1}, draws) for _ in range(4000)]
    assert set(drawn) == {("a",), ("c",), ("a", "c")}, "in their order, never one that prompts nobody"
    share = {name: sum(name in one for one in drawn) / 4000 for name in "ac"}
    assert share["a"] == pytest.approx(0.75 + 0.25 * JOINS, abs=0.03)
    assert share["c"] == pytest.approx(0.25 + 0.75 * JOINS, abs=0.03)
    assert draw_prompting({"a": 0, "b": 0}, draws) == ()
    assert {len(draw_prompting({"a": 3, "b": 1, "c": 1}, draws, 0.0)) for _ in range(50)} == {1}, "single prompts"
    assert draw_prompting({"a": 3, "b": 1}, draws, 1.0) == ("a", "b")


def test_a_modality_that_prompts_is_nobodys_partner_in_these_studies():
    read, rows = draw_readers(3, 2000, generator(), partner_drop=0.0), torch.arange(2000) % 2 == 0
    shown = hide_prompting(read, ("a", "b", "c"), ("b", "elsewhere"), rows)
    assert not shown[:, 1, rows].any()
    assert torch.equal(shown[:, :, ~rows], read[:, :, ~rows])
    assert torch.equal(shown[:, [0, 2]], read[:, [0, 2]]), "it reads the others as ever"
    silent = without_prompting_readers(read, ("a", "b", "c"), ("b",), rows)
    assert not silent[1][:, rows].any()
    assert torch.equal(silent[[0, 2]], read[[0, 2]])


# E14 -----------------------------------------------------------------------------------------------------------------
def test_contrast_is_symmetric_info_nce_with_its_own_temperature():
    contrast = ContextContrast(temperature=0.2)
    v_a, v_b = (F.normalize(torch.randn(4, 6, generator=generator(seed)), dim=-1) for seed in (0, 1))
    similarity = v_a @ v_b.T / 0.2
    expected = -(similarity.log_softmax(1).diagonal().mean() + similarity.log_softmax(0).diagonal().mean())
    assert torch.allclose(contrast(v_a, v_b), expected, atol=1e-5)
    contrast(v_a, v_b).backward()
    assert contrast.logit_scale.grad.abs() > 0
    assert contrast(v_a[:1], v_b[:1]) == 0
