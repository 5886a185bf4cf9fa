from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.errors import UserError
from core.nn import ContextAttention


def test_a_fresh_sublayer_adds_exactly_zero(new_context):
    update = ContextAttention(8, 10, 2)(torch.randn(2, 6, 8), new_context())
    assert update.shape == (2, 6, 8)
    assert torch.equal(update, torch.zeros(2, 6, 8))


def test_it_reads_hidden_and_context(new_context, randomised):
    module = randomised(ContextAttention(8, 10, 2))
    hidden = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    first = module(hidden, new_context())
    assert (first - module(hidden, new_context(8))).abs().max() > 1e-3
    assert (first - module(hidden.flip(-1), new_context())).abs().max() > 1e-5


def test_masked_tokens_have_no_influence_and_column_0_alone_is_enough(new_context, randomised):
    module, hidden, context = randomised(ContextAttention(8, 10, 2)), torch.randn(2, 6, 8), new_context()
    only = torch.zeros(2, 5, dtype=torch.bool)
    only[:, 0] = True
    tokens = context.tokens.clone()
    tokens[:, 1:] = 1e3
    first = module(hidden, replace(context, mask=only))
    assert torch.isfinite(first).all()
    assert torch.equal(first, module(hidden, replace(context, mask=only, tokens=tokens)))
    # With one token there is nothing to weigh: every hidden token is told the same.
    torch.testing.assert_close(first, first[:, :1].expand_as(first))


def test_it_is_the_attention_of_the_equation(new_context, randomised):
    """method E13 written out with a softmax."""
    module, hidden, context = randomised(ContextAttention(8, 10, 1)), torch.randn(2, 6, 8), new_context()
    partners = module.norm_context(context.tokens)
    query, key, value = module.to_query(module.norm_hidden(hidden)), module.to_key(partners), module.to_value(partners)
    scores = (query @ key.mT / 8**0.5).masked_fill(~context.mask[:, None], -torch.inf)
    expected = module.to_update(scores.softmax(-1) @ value)
    torch.testing.assert_close(module(hidden, context), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_it_serves_a_bfloat16_network(new_context, randomised, weights):
    module, context = randomised(ContextAttention(8, 10, 2)).to(weights), new_context()
    update = module(torch.randn(2, 6, 8).bfloat16(), context)
    assert update.dtype == torch.bfloat16
    assert torch.isfinite(update).all()


def test_it_runs_under_autocast(new_context, randomised):
    module, hidden, context = randomised(ContextAttention(8, 10, 2)), torch.randn(2, 6, 8), new_context()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        update = module(hidden, context)
    assert update.dtype == hidden.dtype
    torch.testing.assert_close(update, module(hidden, context), rtol=0.1, atol=0.05)


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match="width 8 must be a multiple of its number of heads 3"):
        ContextAttention(8, 10, 3)
