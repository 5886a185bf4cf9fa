"""Summaries of partners: a vector that changes what a denoiser is conditioned on (F7)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.config.recipe import GuideChoice
from core.contract.modality import Site
from core.guide.attention import attach_guidance
from core.guide.context_encoder import joined, new_context_encoder
from core.guide.summary import SummaryBranch, SummaryUpdate
from core.io.geometry import centred
from core.nn import GridDenoiserConfig, VectorDenoiserConfig
from core.types import Conditioning, LatentSpec

CHOICE = GuideChoice(context="spatial", aligned="alone", aligned_width=6, summary=True, summary_width=12)
SPACES = {"report": (), "frontal": (8, 8), "volume": (8, 6, 5)}
GRID = {"channels": 3, "space": (8, 8), "prompt_width": 8, "widths": (16, 32), "attention": (False, True)}
NETWORKS = {
    "pooled": GridDenoiserConfig(**GRID, pooled_width=10, num_blocks=1, head_width=8, norm_groups=8),
    "first prompt token": GridDenoiserConfig(**GRID, num_blocks=1, head_width=8, norm_groups=8),
    "vector": VectorDenoiserConfig(
        width=12,
        model_width=16,
        prompt_width=8,
        pooled_width=10,
        multipliers=(1,),
        attention=(True,),
        num_blocks=1,
        num_heads=2,
        norm_groups=8,
    ),
}


def sender(name: str, seed: int = 0):
    torch.manual_seed(seed)
    geometry = centred((64, 64), (6.0, 6.0), "IL", projection=True) if name == "frontal" else None
    spec = LatentSpec(channels=3, space=SPACES[name])
    return new_context_encoder(CHOICE, spec, geometry, width=16, prompt_width=8)


def encoded(encoder, absent=None, seed: int = 5):
    z = torch.randn(2, *encoder.shape, generator=torch.Generator().manual_seed(seed))
    return encoder(z, torch.tensor([-2.0, 2.0]), torch.zeros(2, dtype=torch.bool), absent)


def predict(network, context):
    draws = torch.Generator().manual_seed(4)
    z, prompt = torch.randn(2, *network.latent_shape, generator=draws), torch.randn(2, 3, 8, generator=draws)
    pooled = None if network.pooled_width is None else torch.randn(2, network.pooled_width, generator=draws)
    with torch.no_grad():
        return network(z, torch.tensor([-1.0, 2.0]), Conditioning(prompt=prompt, pooled=pooled, context=context))


@pytest.mark.parametrize("name", SPACES)
def test_every_sender_has_one_and_each_cell_of_it_counts(name, randomised):
    branch = randomised(SummaryBranch(3, SPACES[name], 12, 16), std=0.3)
    z = torch.randn(2, 3, *SPACES[name], requires_grad=True)
    summary = branch(z, torch.randn(2, 16))
    assert summary.shape == (2, 12)
    (gradient,) = torch.autograd.grad(summary[0].square().sum(), z)
    assert (gradient[0] != 0).all(), "no cell of the latent is left out"
    assert not gradient[1].any(), "no sample depends on another"


def test_level_and_clean_flag_decide_what_is_sent(randomised):
    encoder = randomised(sender("report"), std=0.3)
    z, no = torch.randn(2, *encoder.shape), torch.zeros(2, dtype=torch.bool)
    summary = encoder(z[:1].expand(2, -1), torch.tensor([-3.0, 3.0]), no).summary
    assert (summary[0] - summary[1]).abs().max() > 1e-3
    clean = encoder(z, torch.tensor([-3.0, 3.0]), ~no).summary
    assert torch.equal(clean, encoder(z, torch.tensor([1.0, -9.0]), ~no).summary), "a clean latent has no level"


def test_an_absent_sender_adds_exactly_nothing(randomised):
    encoder = randomised(sender("frontal"), std=0.3)
    absent = torch.tensor([True, False])
    summary = encoded(encoder, absent).summary
    assert not summary[0].any()
    assert summary[1].abs().max() > 1e-3
    assert torch.equal(encoder.readable(encoded(encoder), ~absent).summary, summary)


def test_summaries_of_partners_are_added(randomised):
    contexts = [encoded(randomised(sender(name), seed, 0.3)) for seed, name in enumerate(SPACES)]
    total = joined(contexts).summary
    assert torch.allclose(total, sum(context.summary for context in contexts), atol=1e-6)
    silent = replace(contexts[0], summary=None)
    assert torch.equal(joined([silent, contexts[1]]).summary, contexts[1].summary)
    assert joined([silent, silent]).summary is None


def test_the_update_is_linear_in_the_sum(randomised):
    update, context = SummaryUpdate(Site("summary", 10, (), "residual"), 12), encoded(sender("report"))
    assert not update(context).any(), "a fresh one adds nothing"
    randomised(update, std=0.3)
    assert torch.allclose(update(context), context.summary @ update.to_update.weight.T)
    assert not update(replace(context, summary=None)).any()


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_stock_denoiser_reads_them_and_a_fresh_one_changes_no_bit(kind, randomised):
    network = randomised(NETWORKS[kind].build().eval(), std=0.1).requires_grad_(False)
    before, context = predict(network, None), joined([encoded(sender(name)) for name in ("report", "frontal")])
    sites = attach_guidance(network, None, context_width=None, aligned_width=6, summary_width=12)
    assert list(sites) == ["summary"], "without a geometry nothing lies anywhere"
    assert torch.equal(before, predict(network, context))
    randomised(sites["summary"], std=0.3)
    after = predict(network, context)
    assert (before - after).abs().max() > 1e-5
    assert torch.equal(before, predict(network, replace(context, summary=None)))
    alone = torch.cat([predict_row(network, context, row) for row in range(2)])
    assert torch.allclose(alone, after, atol=1e-5), "no sample depends on its batch"


def predict_row(network, context, row):
    draws = torch.Generator().manual_seed(4)
    z, prompt = torch.randn(2, *network.latent_shape, generator=draws), torch.randn(2, 3, 8, generator=draws)
    pooled = None if network.pooled_width is None else torch.randn(2, network.pooled_width, generator=draws)
    conditioning = Conditioning(prompt=prompt, pooled=pooled, context=context)[[row]]
    with torch.no_grad():
        return network(z[[row]], torch.tensor([-1.0, 2.0])[[row]], conditioning)


def test_branches_of_guidance_share_one_context(randomised):
    network = randomised(NETWORKS["pooled"].build().eval(), std=0.1)
    randomised(attach_guidance(network, None, context_width=None, summary_width=12)["summary"], std=0.3)
    context, z = encoded(sender("frontal")), torch.randn(2, 3, 8, 8)
    prompt, pooled = torch.randn(4, 1, 8), torch.randn(4, 10)
    both = Conditioning(prompt=prompt, pooled=pooled, context=context)
    twice = replace(both, context=context[[0, 1, 0, 1]])
    with torch.no_grad():
        z, level = torch.cat([z, z]), torch.zeros(4)
        assert torch.allclose(network(z, level, both), network(z, level, twice), atol=1e-6)


def test_the_contrast_reads_the_summary_and_no_token(randomised):
    choice = CHOICE.model_copy(update={"contrast": True})
    encoder = new_context_encoder(choice, LatentSpec(channels=3, space=(8, 8)), None, width=16, prompt_width=8)
    context = encoded(randomised(encoder, std=0.3))
    assert context.tokens.shape[1] == 1, "the null token alone"
    pooled = encoder.pooled(context)
    assert torch.allclose(pooled.norm(dim=1), torch.ones(2))
    assert pooled.shape == (2, 16)
    doubled = encoder.pooled(replace(context, summary=-context.summary))
    assert (pooled - doubled).abs().max() > 0.1


def test_a_narrow_summary_of_a_report_is_not_empty(randomised):
    branch = randomised(SummaryBranch(3, (), 8, 16), std=0.3)
    first, second = (branch(torch.full((1, 3), value) + torch.arange(3), torch.ones(1, 16)) for value in (0.0, 4.0))
    assert (first - second).abs().max() > 1e-3
