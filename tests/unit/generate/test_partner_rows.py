"""Rows of partners can be exchanged between the samples of a batch."""

import torch

from core.generate.joint_sampling import context_of
from core.types import Context


def test_rows_of_partners_can_be_exchanged():
    tokens = torch.randn(3, 2, 4)
    context = Context(
        tokens=tokens,
        mask=torch.ones(3, 2, dtype=torch.bool),
        position_mm=torch.randn(3, 2, 3),
        axes=torch.ones(3, 2, 3, dtype=torch.bool),
    )
    assert context_of(context, None) is context
    other = context_of(context, [2, 0, 1])
    assert torch.equal(other.tokens, tokens[[2, 0, 1]])
    assert torch.equal(other.position_mm, context.position_mm[[2, 0, 1]])
