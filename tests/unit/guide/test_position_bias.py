"""The bias of positions: against a softmax written out, what is computed once, and contexts that branches share."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.contract.modality import Site
from core.errors import UserError
from core.guide import position_bias
from core.guide.attention import GuidanceAttention
from core.guide.position_bias import PositionBias
from core.guide.positions import WAVELENGTHS_MM
from core.io.geometry import centred
from core.nn.attention import by_head
from core.types import Context

FRONTAL = centred((64, 64), (6.0, 6.0), "IL")
WIDTH = 12


@pytest.fixture
def module(randomised):
    return randomised(GuidanceAttention(Site("s", 16, (4, 4)), FRONTAL, WIDTH), std=0.3)


def context(rows: int = 3, length: int = 6, seed: int = 0, *, agree: bool = True, masked: bool = True) -> Context:
    """Of one sender all rows agree on the positions; the last token of the last row may be masked."""
    draws = torch.Generator().manual_seed(seed)
    axes = torch.rand(1 if agree else rows, length, 3, generator=draws) > 0.3
    position = torch.randn(len(axes), length, 3, generator=draws) * 80 * axes
    mask = torch.ones(rows, length, dtype=torch.bool)
    mask[-1, -1] = not masked
    tokens = torch.randn(rows, length, WIDTH, generator=draws)
    return Context(tokens=tokens, mask=mask, position_mm=position.expand(rows, -1, -1), axes=axes.expand(rows, -1, -1))


def hidden(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 16, 16, generator=torch.Generator().manual_seed(9))


def written_out(module: GuidanceAttention, hidden: torch.Tensor, context: Context) -> torch.Tensor:
    """Softmax of q.k / sqrt(d) + sum of gain cos(2 pi distance / wavelength), one row and one head after the other."""
    cells = torch.tensor([[144.0 - 96 * column, 0.0, 144.0 - 96 * row] for row in range(4) for column in range(4)])
    partners = module.norm_context(context.tokens)
    embedded = module.norm_hidden(hidden) + module.position_embedding(module.query_features)
    q, k, v = (
        by_head(layer(tokens), module.num_heads)
        for layer, tokens in ((module.to_query, embedded), (module.to_key, partners), (module.to_value, partners))
    )
    attended = torch.zeros_like(q)
    for row, head in ((row, head) for row in range(len(hidden)) for head in range(module.num_heads)):
        score = q[row, head] @ k[row, head].T / math.sqrt(q.shape[-1])
        for axis in (0, 2):  # a frontal view knows R and S
            distance = cells[:, None, axis] - context.position_mm[row, None, :, axis]
            for wave, gain in zip(WAVELENGTHS_MM, module.gain[head], strict=True):
                score = score + gain * torch.cos(2 * math.pi * distance / wave) * context.axes[row, :, axis]
        score = score.masked_fill(~context.mask[row], -torch.inf)
        attended[row, head] = score.softmax(-1) @ v[row, head]
    return module.to_update(attended.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("agree", [True, False], ids=["one sender", "a position of its own in every row"])
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "all count"])
@pytest.mark.parametrize("trained", [True, False])
def test_it_is_the_equation(module, agree, masked, trained):
    read = context(agree=agree, masked=masked)
    expected = written_out(module, hidden(), read)
    with torch.set_grad_enabled(trained):
        update = module(hidden(), read)
        again = module(hidden(), replace(read))  # from what was computed before
    assert torch.allclose(update, expected, atol=1e-5)
    assert torch.equal(update, again)


def test_its_gradient_is_that_of_the_equation(module):
    weights, gradients = [module.gain, module.to_key.weight, module.to_query.weight], []
    for compute in (module, lambda *inputs: written_out(module, *inputs)):
        gradients.append(torch.autograd.grad(compute(hidden(), context()).square().sum(), weights))
    for ours, expected in zip(*gradients, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_a_changed_gain_and_another_sender_are_seen(module):
    with torch.no_grad():
        first = module(hidden(), context())
        elsewhere = replace(context(), position_mm=context().position_mm + 50 * context().axes)
        assert not torch.allclose(module(hidden(), elsewhere), first, atol=1e-4)
        state = {name: value + 0.5 if name == "gain" else value for name, value in module.state_dict().items()}
        module.load_state_dict(state)
        changed = module(hidden(), context())
        assert not torch.allclose(changed, first, atol=1e-4)
        assert torch.allclose(changed, written_out(module, hidden(), context()), atol=1e-5)
        module.gain.sub_(0.5)
        assert torch.allclose(module(hidden(), context()), first, atol=1e-5)


def test_the_bias_of_one_distance():
    """Both know S, 16 mm apart: the cosine is 1 at wavelengths of 8 and 16 mm, -1 at 32 and 0 at 64."""
    axes = torch.tensor([[False, True, True]])
    bias = PositionBias(torch.tensor([[0.0, 5.0, 20.0]]), axes)
    read = replace(
        context(1, 1), position_mm=torch.tensor([[[3.0, 0.0, 36.0]]]), axes=torch.tensor([[[True, False, True]]])
    )
    gain = torch.zeros(2, len(WAVELENGTHS_MM))
    gain[0, 0], gain[0, 1], gain[1, 2], gain[1, 3] = 1.0, 2.0, 3.0, 5.0
    assert torch.allclose(bias(gain, read)[0, :, 0, 0], torch.tensor([3.0, -3.0]), atol=1e-5)


@torch.no_grad()
def test_samples_and_steps_compute_no_bias_again(module, monkeypatch):
    calls = []
    weighted = position_bias.weighted
    monkeypatch.setattr(position_bias, "weighted", lambda *inputs: calls.append(1) or weighted(*inputs))
    for step in range(4):
        read = context(rows=2 + step % 2)
        module(hidden(2 + step % 2), replace(read, tokens=read.tokens + step))
    assert len(calls) == 1


@torch.no_grad()
def test_branches_share_a_context(module):
    read = context()
    branches = torch.cat([hidden(), hidden() + 1])
    both = Context(
        tokens=read.tokens.repeat(2, 1, 1),
        mask=read.mask.repeat(2, 1),
        position_mm=read.position_mm.repeat(2, 1, 1),
        axes=read.axes.repeat(2, 1, 1),
    )
    assert torch.allclose(module(branches, read), module(branches, both), atol=1e-6)
    varied = context(agree=False)
    apart = torch.cat([module(hidden(), varied), module(hidden() + 1, varied)])
    assert torch.allclose(module(branches, varied), apart, atol=1e-6)
    with pytest.raises(UserError, match="4 rows of hidden tokens are no multiple of the 3"):
        module(hidden(4), read)
