"""Aligned context: features of senders on the grid of a receiver, in stock denoisers (F7)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from core.config.recipe import GuideChoice
from core.guide.aligned import AlignedBranch, AlignedUpdate
from core.guide.attention import attach_guidance
from core.guide.context_encoder import joined, new_context_encoder
from core.io.geometry import centred
from core.nn import GridDenoiserConfig
from core.types import Conditioning, LatentSpec

VIEW = {
    "frontal": (centred((64, 64), (6.0, 6.0), "IL", projection=True), (8, 8)),
    "lateral": (centred((64, 64), (6.0, 6.0), "IP", projection=True), (8, 8)),
    "axial": (centred((64, 64), (6.0, 6.0), "PL"), (8, 8)),
    "volume": (centred((32, 32, 32), (12.0, 12.0, 12.0), "SPL"), (8, 8, 8)),
    "report": (None, ()),
}
WIDTH = 12
CHOICE = GuideChoice(context="spatial", adaptation=True, contrast=True, aligned="beside", aligned_width=6)


def sender(name: str, choice: GuideChoice = CHOICE, seed: int = 0):
    geometry, space = VIEW[name]
    torch.manual_seed(seed)
    spec = LatentSpec(channels=3, space=space)
    return new_context_encoder(choice, spec, geometry, width=WIDTH, prompt_width=10)


def encoded(encoder, batch: int = 2, absent=None, seed: int = 5):
    z = torch.randn(batch, *encoder.shape, generator=torch.Generator().manual_seed(seed))
    return encoder(z, torch.linspace(-2, 2, batch), torch.zeros(batch, dtype=torch.bool), absent)


def receiver(name: str, **changes):
    torch.manual_seed(0)
    geometry, space = VIEW[name]
    config = GridDenoiserConfig(
        channels=3,
        space=space,
        prompt_width=8,
        widths=(16, 32),
        attention=(False, True),
        num_blocks=1,
        head_width=8,
        norm_groups=8,
        **changes,
    )
    return config.build().eval(), geometry


def predict(network, context, rows: int = 2):
    draws = torch.Generator().manual_seed(4)
    z = torch.randn(rows, *network.latent_shape, generator=draws)
    prompt = torch.randn(rows, 3, 8, generator=draws)
    return network(z, torch.linspace(-1, 2, rows), Conditioning(prompt=prompt, context=context))


def residual_names(sites):
    return [name for name in sites if isinstance(sites[name], AlignedUpdate)]


def trained(network, geometry, randomised, seed: int = 1):
    """A receiver whose aligned updates are no longer 0, and whose attention is."""
    sites = attach_guidance(network, geometry, context_width=WIDTH, aligned_width=6)
    for name in residual_names(sites):
        randomised(sites[name], seed, 0.3)
    return sites


@pytest.mark.parametrize("kind", ["frontal", "volume"])
def test_a_fresh_one_changes_no_bit(kind, randomised):
    network, geometry = receiver(kind)
    randomised(network, std=0.1).requires_grad_(False)
    before = predict(network, None)
    sites = attach_guidance(network, geometry, context_width=WIDTH, aligned_width=6)
    assert residual_names(sites) == [
        site.name for site in network.context_sites() if site.kind == "residual" and site.grid
    ]
    assert len(residual_names(sites)) == 1 + 2 + 1, "input, every resolution, middle"
    context = joined([encoded(sender(name)) for name in VIEW])
    assert torch.equal(before, predict(network, context))


@pytest.mark.parametrize("kind", ["frontal", "volume"])
def test_each_site_counts_and_nothing_but_the_partner_decides(kind, randomised):
    network, geometry = receiver(kind)
    randomised(network, std=0.1).requires_grad_(False)
    sites = attach_guidance(network, geometry, context_width=WIDTH, aligned_width=6)
    context = encoded(sender("volume"))
    before = predict(network, context)
    for name in residual_names(sites):
        randomised(sites[name], std=0.3)
        after = predict(network, context)
        assert (before - after).abs().max() > 1e-5, name
        before = after
    assert (before - predict(network, encoded(sender("volume"), seed=6))).abs().max() > 1e-5
    without = replace(context, aligned={})
    assert torch.equal(predict(network, without), predict(network, None))


@pytest.mark.parametrize("kind", ["frontal", "volume"])
def test_no_sample_depends_on_its_batch(kind, randomised):
    network, geometry = receiver(kind)
    trained(randomised(network, std=0.1), geometry, randomised)
    with torch.no_grad():
        context = joined([encoded(sender("lateral"), 4), encoded(sender("volume"), 4)])
        together = predict(network, context, 4)
        z = torch.randn(4, *network.latent_shape, generator=torch.Generator().manual_seed(4))
    assert together.shape == z.shape
    for row in range(4):
        draws = torch.Generator().manual_seed(4)
        z = torch.randn(4, *network.latent_shape, generator=draws)[row : row + 1]
        prompt = torch.randn(4, 3, 8, generator=draws)[row : row + 1]
        conditioning = Conditioning(prompt=prompt, context=context[row : row + 1])
        with torch.no_grad():
            alone = network(z, torch.linspace(-1, 2, 4)[row : row + 1], conditioning)
        assert torch.allclose(alone, together[row : row + 1], atol=1e-5)


def test_an_absent_sender_adds_exactly_nothing(randomised):
    encoder = randomised(sender("lateral"))
    absent = torch.tensor([True, False])
    context = encoded(encoder, absent=absent)
    (features,) = context.aligned.values()
    assert not features[0].any()
    assert features[1].abs().min() > 0
    (dropped,) = encoder.readable(encoded(encoder), ~absent).aligned.values()
    assert torch.equal(dropped, features), "one receiver that does not read it, and a sender that is absent, are one"
    network, geometry = receiver("frontal")
    trained(randomised(network, std=0.1), geometry, randomised)
    alone = torch.tensor([True, True])
    nothing = encoded(encoder, absent=alone)
    assert torch.equal(predict(network, nothing), predict(network, replace(nothing, aligned={})))


def test_partners_are_summed_whichever_grids_they_have(randomised):
    network, geometry = receiver("frontal")
    sites = trained(network, geometry, randomised)
    module = sites["down_blocks.1"]
    contexts = [encoded(randomised(sender(name, seed=seed), seed)) for seed, name in enumerate(VIEW)]
    contexts.append(encoded(randomised(sender("volume", seed=9), 9)))  # a second sender on one grid
    total = module(joined(contexts))
    assert torch.allclose(total, sum(module(context) for context in contexts), atol=1e-5)
    assert total.shape == (2, 32, 4, 4)


def test_a_report_sends_tokens_only(randomised):
    context = encoded(sender("report"))
    assert context.aligned == {}
    network, geometry = receiver("frontal")
    sites = trained(network, geometry, randomised)
    update = sites["conv_in"](context)
    assert update.shape == (2, 16, 8, 8)
    assert not update.any()


def test_a_lateral_view_moves_whole_rows_of_a_frontal_one(randomised):
    network, geometry = receiver("frontal")
    sites = trained(network, geometry, randomised)
    context = encoded(randomised(sender("lateral")))
    update = sites["conv_in"](context)
    assert torch.allclose(update, update[..., :1].expand_as(update), atol=1e-6)
    assert update.std(2).min() > 1e-3, "heights differ"


def test_gradients_reach_the_sender_through_every_site_and_with_checkpointing(randomised):
    gradients = {}
    for checkpointed in (False, True):
        for kind in ("frontal", "volume"):
            network, geometry = receiver(kind, gradient_checkpointing=checkpointed)
            trained(randomised(network, std=0.1), geometry, randomised)
            encoder = randomised(sender("volume"))
            predict(network.train(), encoded(encoder)).square().sum().backward()
            gradients[kind, checkpointed] = encoder.aligned.enter.weight.grad
            assert gradients[kind, checkpointed].abs().max() > 1e-4
    for kind in ("frontal", "volume"):
        torch.testing.assert_close(gradients[kind, False], gradients[kind, True], rtol=1e-3, atol=1e-5)


def test_the_branch_is_a_gated_residual_block_of_modulated_features(randomised):
    branch = randomised(AlignedBranch(3, (8, 8), 6, WIDTH))
    draws = torch.Generator().manual_seed(2)
    z, embedding = torch.randn(2, 3, 8, 8, generator=draws), torch.randn(2, WIDTH, generator=draws)
    scale, shift, gate = branch.modulation(embedding)[:, :, None, None].split(6, 1)
    hidden = F.conv2d(z, branch.enter.weight, branch.enter.bias, padding=1)
    grouped = hidden.reshape(2, 2, -1)  # two groups of three features
    variance, mean = torch.var_mean(grouped, 2, correction=0, keepdim=True)
    normed = ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(hidden.shape)
    normed = normed * branch.norm.weight[:, None, None] + branch.norm.bias[:, None, None]
    modulated = normed * (1 + scale) + shift
    body = F.conv2d(modulated * modulated.sigmoid(), branch.body.weight, branch.body.bias, padding=1)
    assert torch.allclose(branch(z, embedding), (hidden + body) * (1 + gate), atol=1e-5)


def test_the_level_decides_how_much_is_sent(randomised):
    encoder = randomised(sender("axial"))
    z = torch.randn(2, *encoder.shape, generator=torch.Generator().manual_seed(0))[:1].expand(2, -1, -1, -1)
    no, levels = torch.zeros(2, dtype=torch.bool), torch.tensor([-3.0, 3.0])
    (features,) = encoder(z, levels, no).aligned.values()
    assert (features[0] - features[1]).abs().max() > 1e-2
    (clean,) = encoder(z, levels, ~no).aligned.values()
    assert torch.allclose(clean[0], clean[1], atol=1e-6)


def test_branches_of_guidance_may_share_a_context(randomised):
    network, geometry = receiver("frontal")
    trained(randomised(network, std=0.1), geometry, randomised)
    context = encoded(randomised(sender("volume")))
    draws = torch.Generator().manual_seed(4)
    z, prompt = torch.randn(2, 3, 8, 8, generator=draws), torch.randn(4, 3, 8, generator=draws)
    level = torch.tensor([-1.0, 2.0])
    with torch.no_grad():
        both = network(torch.cat([z, z]), level.repeat(2), Conditioning(prompt=prompt, context=context))
        for part, rows in zip(both.chunk(2), prompt.chunk(2), strict=True):
            alone = network(z, level, Conditioning(prompt=rows, context=context))
            assert torch.allclose(part, alone, atol=1e-5)


def test_weights_are_named_by_their_site_and_load_strictly(randomised):
    network, geometry = receiver("volume")
    sites = trained(network, geometry, randomised)
    state = sites.state_dict()
    assert "down_blocks/1.to_update.weight" in state
    again, _ = receiver("volume")
    attach_guidance(again, geometry, context_width=WIDTH, aligned_width=6).load_state_dict(state, strict=True)
    context = encoded(sender("frontal"))
    assert torch.equal(predict(network, context), predict(again, context))
    first, second = sender("volume"), sender("volume", seed=3)
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(*(next(iter(encoded(each).aligned.values())) for each in (first, second)))


@pytest.mark.parametrize("name", ["frontal", "volume", "report"])
def test_alone_nothing_is_read_by_attention(name, new_flow):
    alone = CHOICE.model_copy(update={"aligned": "alone", "adaptation": False})
    beside, context = encoded(sender(name)), encoded(sender(name, alone))
    assert beside.mask.all()
    assert context.mask[:, 0].all()
    assert not context.mask[:, 1:].any(), "the contrast alone reads these tokens"
    silent = encoded(sender(name, alone.model_copy(update={"contrast": False})))
    assert silent.tokens.shape == (2, 1, WIDTH), "none is computed"
    network, geometry = receiver("frontal")
    sites = attach_guidance(network, geometry, context_width=None, aligned_width=6, summary_width=4)
    assert {site.kind for site in network.context_sites() if site.name in sites} == {"residual"}


def test_alone_has_no_adaptation_tokens():
    with pytest.raises(ValueError, match=r"guide\.adaptation = false, or guide\.aligned = 'beside'"):
        GuideChoice(context="spatial", adaptation=True, aligned="alone")


def test_without_the_switch_there_is_nothing_of_it():
    plain = CHOICE.model_copy(update={"aligned": "none"})
    assert encoded(sender("frontal", plain)).aligned == {}
    network, geometry = receiver("frontal")
    sites = attach_guidance(network, geometry, context_width=WIDTH, aligned_width=plain.features_width)
    assert residual_names(sites) == []


def test_a_denoiser_without_residual_sites_reads_tokens_as_before(new_flow):
    flow = new_flow("grid")
    sites = attach_guidance(flow.denoiser, flow.geometry, context_width=WIDTH, aligned_width=6)
    assert list(sites) == ["block"]
