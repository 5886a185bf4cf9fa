"""Weights of prompts reach the mixed vector, or a prediction of each prompt (method E4, E6)."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import core  # noqa: F401
from core.diffuse.prompts import PromptAssembly
from core.generate.pipeline import conditionings, weighted_conditionings
from core.types import Prompt

WIDTH, ROWS = 4, 2


def bundle(form):
    torch.manual_seed(0)
    assembly = PromptAssembly(WIDTH, {"text": WIDTH, "xray": WIDTH}, form)
    config = SimpleNamespace(prompt=SimpleNamespace(form=form))
    return SimpleNamespace(
        assembly=lambda name: assembly,
        networks=SimpleNamespace(compute=SimpleNamespace(device="cpu")),
        run=SimpleNamespace(config=config),
    )


def prompt(seed):
    draws = torch.Generator().manual_seed(seed)
    pooled = F.normalize(torch.randn(1, WIDTH, generator=draws), dim=-1).expand(ROWS, -1)
    tokens = torch.randn(1, 3, WIDTH, generator=draws).expand(ROWS, -1, -1)
    return Prompt(tokens=tokens, pooled=pooled, mask=torch.ones(ROWS, 3, dtype=torch.bool))


PROMPTS = {"text": prompt(1), "xray": prompt(2)}


@pytest.mark.parametrize("form", ["mixed_pooled", "pooled"])
@torch.no_grad()
def test_a_mixed_vector_is_mixed_by_the_weights(form):
    """c = sum of alpha_m h_m with alpha 3/4 and 1/4, at the size of a token."""
    ((share, conditioning),) = weighted_conditionings(bundle(form), "ct", PROMPTS, ROWS, {"text": 3.0})
    expected = (0.75 * PROMPTS["text"].pooled + 0.25 * PROMPTS["xray"].pooled) * WIDTH**0.5
    assert share == 1.0
    assert torch.allclose(conditioning.prompt[:, 0], expected, atol=1e-6)


@torch.no_grad()
def test_of_tokens_each_prompt_conditions_a_prediction_of_its_own():
    run = bundle("pooled_and_neighbour_tokens")
    parts = weighted_conditionings(run, "ct", PROMPTS, ROWS, {"xray": 3.0})
    assert [share for share, _ in parts] == [0.25, 0.75]
    for (_, part), (name, single) in zip(parts, PROMPTS.items(), strict=True):
        alone, _ = conditionings(run, "ct", {name: single}, ROWS)
        assert torch.equal(part.prompt, alone.prompt)
        assert part.prompt_mask is not None
        assert torch.equal(part.prompt_mask, alone.prompt_mask)
