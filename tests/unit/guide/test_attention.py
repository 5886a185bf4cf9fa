"""Context attention at the sites of a denoiser: positions, freezing, the exact start (E13, F2, F4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.contract.modality import Site
from core.guide.attention import GuidanceAttention, attach_guidance, heads_of
from core.guide.context_encoder import joined
from core.guide.positions import grid_positions
from core.io.geometry import centred
from core.nn import GridDenoiserConfig, VectorDenoiserConfig
from core.types import Conditioning, Context

FRONTAL = centred((64, 64), (6.0, 6.0), "IL")
VOLUME = centred((32, 32, 32), (12.0, 12.0, 12.0), "SPL")
WIDTH = 12


def denoiser(kind: str):
    torch.manual_seed(0)
    sizes = {"widths": (16, 32), "attention": (False, True), "num_blocks": 1, "head_width": 8, "norm_groups": 8}
    made = {
        "vector": lambda: VectorDenoiserConfig(
            width=6,
            model_width=16,
            prompt_width=8,
            multipliers=(1, 2),
            attention=(True, True),
            num_heads=2,
            norm_groups=8,
        ),
        "plane": lambda: GridDenoiserConfig(channels=3, space=(8, 8), prompt_width=8, **sizes),
        "volume": lambda: GridDenoiserConfig(channels=3, space=(4, 4, 4), prompt_width=8, **sizes),
    }
    return made[kind]().build().eval(), {"vector": None, "plane": FRONTAL, "volume": VOLUME}[kind]


def context(length: int = 5, seed: int = 0, axes: bool = True) -> Context:
    draws = torch.Generator().manual_seed(seed)
    position = torch.randn(2, length, 3, generator=draws) * 80
    known = torch.full((2, length, 3), axes)
    known[:, 0] = False
    return Context(
        tokens=torch.randn(2, length, WIDTH, generator=draws),
        mask=torch.ones(2, length, dtype=torch.bool),
        position_mm=position * known,
        axes=known,
    )


def predict(network, read):
    draws = torch.Generator().manual_seed(4)
    z = torch.randn(2, *network.latent_shape, generator=draws)
    prompt = torch.randn(2, 3, 8, generator=draws)
    with torch.no_grad():
        return network(z, torch.tensor([-1.0, 2.0]), Conditioning(prompt=prompt, context=read))


@pytest.mark.parametrize("kind", ["vector", "plane", "volume"])
def test_a_fresh_attachment_changes_no_bit(kind, randomised):
    network, geometry = denoiser(kind)
    # Frozen before, as it is after: PyTorch multiplies with a weight in another order when it requires a gradient.
    randomised(network, std=0.1).requires_grad_(False)
    before = predict(network, None)
    own = {name for name, _ in network.named_parameters()}
    sites = attach_guidance(network, geometry, context_width=WIDTH)
    assert torch.equal(before, predict(network, context()))
    added = {id(p) for name, p in network.named_parameters() if name not in own}
    assert added == {id(p) for p in sites.parameters()}, "exactly what the sites hold was added"
    assert {id(p) for p in network.parameters() if p.requires_grad} == added, "all else is frozen"


@pytest.mark.parametrize("kind", ["vector", "plane", "volume"])
def test_a_trained_attachment_reads_every_site(kind, randomised):
    network, geometry = denoiser(kind)
    randomised(network, std=0.1)
    sites = attach_guidance(network, geometry, context_width=WIDTH)
    assert set(sites) == {site.name for site in network.context_sites() if site.kind == "attention"}
    before = predict(network, context())
    for name in sites:
        randomised(sites[name], seed=1, std=0.3)
        after = predict(network, context())
        assert not torch.equal(before, after), name
        before = after
    assert (before - predict(network, context(seed=1))).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["plane", "volume"])
def test_the_position_of_a_token_counts_along_known_axes_only(kind, randomised):
    network, geometry = denoiser(kind)
    randomised(network, std=0.1)
    randomised(attach_guidance(network, geometry, context_width=WIDTH), std=0.3)
    read = context()
    moved = replace(read, position_mm=read.position_mm + 60 * read.axes)
    assert (predict(network, read) - predict(network, moved)).abs().max() > 1e-4
    blind = replace(read, axes=torch.zeros_like(read.axes))
    assert torch.equal(predict(network, blind), predict(network, replace(blind, position_mm=moved.position_mm)))
    along_a = replace(read, position_mm=read.position_mm + torch.tensor([0.0, 60.0, 0.0]) * read.axes)
    gap = (predict(network, read) - predict(network, along_a)).abs().max()
    assert (gap < 1e-5) == (kind == "plane"), "a frontal view does not know how far anterior it is"


def test_padding_and_masked_partners_change_nothing(randomised):
    network, geometry = denoiser("plane")
    randomised(attach_guidance(network, geometry, context_width=WIDTH), std=0.3)
    read, hidden = context(), context(length=3, seed=8)
    padded = joined([read, replace(hidden, mask=torch.zeros_like(hidden.mask))])
    assert torch.allclose(predict(network, read), predict(network, padded), atol=1e-5)
    other = replace(padded, tokens=torch.cat([read.tokens, hidden.tokens * 5], 1))
    assert torch.equal(predict(network, padded), predict(network, other)), "what is masked has no influence"


def test_at_the_start_a_token_nearby_is_preferred_by_the_first_head():
    module = GuidanceAttention(Site("s", 16, (4, 4)), FRONTAL, WIDTH)
    cells, axes = grid_positions(FRONTAL, (4, 4))
    read = replace(context(length=16), position_mm=cells.expand(2, -1, -1), axes=axes.expand(2, -1, -1))
    local, wide = module.position_bias(module.gain, read)[0]  # two heads: score of every cell with every cell
    assert torch.equal(local.argmax(1), torch.arange(16)), "each cell prefers its own place"
    assert local.softmax(1).diagonal().mean() > 1.3 * wide.softmax(1).diagonal().mean() > 1.3 / 16


def test_weights_are_named_by_their_site_and_round_trip(randomised):
    first, geometry = denoiser("plane")
    sites = attach_guidance(first, geometry, context_width=WIDTH)
    randomised(sites, std=0.3)
    assert len(sites) == len([site for site in first.context_sites() if site.kind == "attention"])
    state = sites.state_dict()
    assert set(state) == {name for name, _ in sites.named_parameters()}
    assert all(name.replace("/", ".").startswith(tuple(sites)) for name in state)
    second, _ = denoiser("plane")
    attach_guidance(second, geometry, context_width=WIDTH).load_state_dict(state, strict=True)
    assert torch.equal(predict(first, context()), predict(second, context()))


def test_it_serves_a_bfloat16_network_and_autocast(randomised):
    module = randomised(GuidanceAttention(Site("s", 16, (4, 4)), FRONTAL, WIDTH))
    hidden = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(1))
    assert module(hidden.bfloat16(), context()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        update = module(hidden, context())
    assert update.dtype == hidden.dtype
    assert torch.allclose(update, module(hidden, context()), rtol=0.1, atol=0.1)
    halved = module.bfloat16()
    assert halved(hidden.bfloat16(), context()).isfinite().all()


@pytest.mark.parametrize(("width", "heads"), [(320, 8), (96, 8), (48, 4), (24, 2), (16, 2), (12, 1), (7, 1)])
def test_heads_divide_the_width(width, heads):
    assert heads_of(width) == heads
