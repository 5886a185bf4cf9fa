"""The context encoder: null token, padding, clean flag, stand-in, shapes (E12, E13, F2, F4)."""

from __future__ import annotations

import math

import pytest
import torch

from core.config.recipe import GuideChoice
from core.errors import UserError
from core.guide.context_encoder import (
    NUM_PARAMETERS,
    AdaptationTokens,
    ContextEncoder,
    draw_parameters,
    joined,
    new_context_encoder,
)
from core.guide.patches import PatchGrid
from core.io.geometry import centred
from core.types import LatentSpec, Prompt

FRONTAL = centred((64, 64), (6.0, 6.0), "IL")
VOLUME = centred((32, 32, 32), (12.0, 12.0, 12.0), "SPL")
KINDS = {
    "vector": ((), None),
    "sequence": ((12,), None),
    "plane": ((16, 16), FRONTAL),
    "oblong": ((16, 8), FRONTAL),
    "volume": ((8, 8, 8), VOLUME),
}


def context_encoder(kind: str, form: str = "spatial", adaptation: bool = True, seed: int = 0) -> ContextEncoder:
    space, geometry = KINDS[kind]
    choice = GuideChoice(context=form, adaptation=adaptation, contrast=True)
    torch.manual_seed(seed)
    return new_context_encoder(choice, LatentSpec(channels=3, space=space), geometry, width=24, prompt_width=10)


def inputs(module: ContextEncoder, batch: int = 3, seed: int = 1):
    draws = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, *module.shape, generator=draws)
    return z, torch.linspace(-4, 4, batch), torch.zeros(batch, dtype=torch.bool)


def rows(*values: bool) -> torch.Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize(
    ("space", "grid"),
    [
        ((), ()),
        ((77,), (11,)),
        ((16, 16), (8, 8)),
        ((64, 32), (8, 8)),
        ((4, 4), (4, 4)),
        ((8, 8, 8), (4, 4, 4)),
        ((12, 16, 2), (4, 4, 2)),
        ((7, 6), (7, 6)),
    ],
)
def test_the_grid_of_tokens_is_small_and_divides_the_latent(space, grid):
    patches = PatchGrid(space)
    assert patches.grid == grid
    assert all(side == cells * edge for side, cells, edge in zip(space, grid, patches.edges, strict=True))


def test_a_recipe_may_ask_for_a_token_per_cell_of_the_latent():
    choice = GuideChoice(context="spatial", tokens=(64, 16, 8))
    for kind, num in (("plane", 256), ("volume", 512)):
        space, geometry = KINDS[kind]
        module = new_context_encoder(choice, LatentSpec(channels=3, space=space), geometry, width=24, prompt_width=10)
        context = module(*inputs(module))
        assert context.tokens.shape[1] == 1 + num
        spacing = geometry.resized(space).spacing_mm[0]
        assert (context.position_mm[0, 1] - context.position_mm[0, 2]).norm().item() == pytest.approx(spacing)


def test_patches_are_the_latent_cut_up_row_by_row():
    z = torch.arange(2 * 3 * 16 * 8.0).reshape(2, 3, 16, 8)
    cut = PatchGrid((16, 8)).cut(z)
    assert cut.shape == (2, 64, 6)
    assert torch.equal(cut[1, 0], z[1, :, :2, :1].flatten())
    assert torch.equal(cut[0, 8 * 3 + 5], z[0, :, 6:8, 5:6].flatten())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["spatial", "pooled"])
def test_a_context_of_every_latent(kind, form):
    module = context_encoder(kind, form)
    context = module(*inputs(module))
    length = 1 + PatchGrid(KINDS[kind][0]).num_tokens if form == "spatial" else 1  # the summary, then the patches
    assert context.tokens.shape == (3, 1 + length + NUM_PARAMETERS, 24)
    assert context.mask.shape == context.tokens.shape[:2]
    assert context.mask.all()
    assert context.position_mm.shape == context.axes.shape == (*context.tokens.shape[:2], 3)
    assert not context.axes[:, 0].any()
    assert not context.axes[:, 1 + length :].any(), "f has no place"
    knows = context.axes[:, 1 : 1 + length].any()
    assert bool(knows) == (form == "spatial" and KINDS[kind][1] is not None)
    pooled = module.pooled(context)
    assert torch.allclose(pooled.norm(dim=-1), torch.ones(3), atol=1e-5)


def test_a_frontal_view_tells_r_and_s_and_a_volume_all_three():
    for kind, axes in (("plane", [True, False, True]), ("volume", [True, True, True])):
        context = context_encoder(kind)(*inputs(context_encoder(kind)))
        assert not context.axes[0, 1].any(), "the summary has no place"
        assert context.axes[0, 2].tolist() == axes
        length = math.prod(PatchGrid(KINDS[kind][0]).grid)
        assert context.position_mm[0, 2 : 2 + length].std() > 10
        assert not context.axes[0, 2 + length :].any()


def test_contrast_reads_the_summary_and_leaves_the_spatial_tokens_alone():
    module = context_encoder("plane")
    context = module(*inputs(module))
    (gradient,) = torch.autograd.grad(module.pooled(context)[:, 0].sum(), context.tokens, retain_graph=True)
    assert gradient[:, 1].abs().sum() > 0
    assert not gradient[:, 0].any()
    assert not gradient[:, 2:].any()
    (reached,) = torch.autograd.grad(module.pooled(context)[:, 0].sum(), module.enter.weight)
    assert reached.abs().sum() > 0, "the summary must read the latent"


@pytest.mark.parametrize("kind", KINDS)
def test_token_0_is_never_masked_and_tells_nothing(kind):
    module = context_encoder(kind)
    z, level, clean = inputs(module)
    first, second = module(z, level, clean), module(z + 1, -level, ~clean, rows(True, True, True))
    assert torch.equal(first.tokens[:, 0], second.tokens[:, 0])
    assert first.mask[:, 0].all()
    assert second.mask[:, 0].all()


def test_the_level_counts_unless_clean_and_clean_is_not_the_cleanest_level():
    module = context_encoder("plane")
    z, level, clean = inputs(module)
    assert not torch.allclose(module(z, level, clean).tokens, module(z, level + 1, clean).tokens)
    assert torch.equal(module(z, level, ~clean).tokens, module(z, level + 1, ~clean).tokens)
    infinite = torch.full_like(level, torch.inf)
    assert module(z, infinite, clean).tokens.isfinite().all()
    assert not torch.allclose(module(z, infinite, clean).tokens, module(z, infinite, ~clean).tokens)


@pytest.mark.parametrize("form", ["spatial", "pooled"])
def test_f_stands_for_an_absent_partner(form):
    module = context_encoder("plane", form)
    z, level, clean = inputs(module)
    absent = rows(True, False, True)
    context = module(z, level, clean, absent)
    length = context.mask.shape[1] - NUM_PARAMETERS - 1
    assert not context.mask[absent][:, 1 : 1 + length].any()
    assert context.mask[:, 1 + length :].all(), "f is always there"
    assert context.mask[~absent].all()
    f = context.tokens[:, 1 + length :]
    assert torch.equal(f[0], module.f_B() + module.sender)
    assert torch.equal(f[0], module(z * 2, level, clean).tokens[1, 1 + length :]), "f is the same for every sample"


def test_without_adaptation_an_absent_partner_leaves_the_null_token_alone():
    module = context_encoder("plane", adaptation=False)
    z, level, clean = inputs(module)
    context = module(z, level, clean, rows(True, True, False))
    assert context.mask.sum(1).tolist() == [1, 1, context.mask.shape[1]]


def test_f_takes_part_in_what_the_latent_tells():
    module = context_encoder("plane")
    arguments = inputs(module)
    before = module(*arguments).tokens[:, 1]
    draws = torch.Generator().manual_seed(3)
    tokens = torch.randn(4, 5, 10, generator=draws)
    module.f_B.draw_from(Prompt(tokens=tokens, pooled=tokens[:, 0], mask=torch.ones(4, 5).bool()), draws)
    assert not torch.allclose(before, module(*arguments).tokens[:, 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["spatial", "pooled"])
def test_gradient_reaches_every_parameter(kind, form):
    module = context_encoder(kind, form)
    z, level, _ = inputs(module)
    context = module(z, level, rows(True, False, False))
    weight = torch.randn(context.tokens.shape, generator=torch.Generator().manual_seed(2))
    ((context.tokens * weight).sum() + (module.pooled(context) * weight[:, 0]).sum()).backward()
    missing = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missing


def test_samples_are_independent_of_each_other():
    module = context_encoder("plane")
    z, level, clean = inputs(module)
    alone = module(z[1:2], level[1:2], clean[1:2])
    assert torch.allclose(module(z, level, clean).tokens[1:2], alone.tokens, atol=1e-5)


def test_senders_differ_and_their_contexts_join_in_order():
    first, second = context_encoder("plane", seed=0), context_encoder("vector", seed=1)
    a, b = first(*inputs(first)), second(*inputs(second))
    both = joined([a, b])
    assert both.tokens.shape[1] == a.tokens.shape[1] + b.tokens.shape[1]
    assert torch.equal(both.tokens[:, : a.tokens.shape[1]], a.tokens)
    assert torch.equal(both.position_mm[:, a.tokens.shape[1] :], b.position_mm)
    assert not torch.allclose(first.sender, second.sender)
    with pytest.raises(UserError, match="no partner"):
        joined([])


def test_weights_are_only_weights():
    """Positions come from the geometry; they are not saved, and so cannot disagree with it."""
    names = set(context_encoder("plane").state_dict())
    assert names == {name for name, _ in context_encoder("plane").named_parameters()}
    other = context_encoder("plane", seed=5)
    other.load_state_dict(context_encoder("plane").state_dict(), strict=True)
    arguments = inputs(other)
    assert torch.equal(other(*arguments).tokens, context_encoder("plane")(*arguments).tokens)


def test_errors_are_plain():
    module = context_encoder("plane")
    with pytest.raises(UserError, match=r"reads latents \(3, 16, 16\), found \(3, 8, 8\)"):
        module(torch.zeros(1, 3, 8, 8), torch.zeros(1), rows(False))
    with pytest.raises(UserError, match=r"guide.context = 'none'"):
        new_context_encoder(
            GuideChoice(context="none"), LatentSpec(channels=1, space=()), None, width=8, prompt_width=8
        )
    empty = Prompt(tokens=torch.zeros(2, 1, 4), pooled=torch.zeros(2, 4), mask=torch.ones(2, 1).bool())
    with pytest.raises(UserError, match="no token but the null token"):
        draw_parameters(empty, 2, torch.Generator())
    with pytest.raises(UserError, match="no token but the null token"):
        AdaptationTokens(2, 4, 4).draw_from(empty, torch.Generator())
