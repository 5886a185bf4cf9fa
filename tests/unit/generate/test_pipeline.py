"""What a denoiser hears of the prompts that are given (METHOD E6b), and how rows of partners are exchanged."""

from types import SimpleNamespace

import pytest
import torch

from core.generate.joint_sampling import context_of
from core.generate.pipeline import heard_prompts
from core.types import Context, Prompt

MEANS = {"text": [1.0, 0.0], "ct": [0.0, 1.0], "mri": [0.6, 0.8], "xray": []}


def prompt(pooled):
    pooled = torch.tensor([pooled])
    return Prompt(tokens=torch.randn(1, 5, 2), pooled=pooled, mask=torch.ones(1, 5, dtype=torch.bool))


@pytest.fixture
def bundle():
    sources = {"mri": ("ct",), "ct": ("text", "mri")}
    return SimpleNamespace(
        run=SimpleNamespace(prompt_sources=sources.__getitem__), mean_prompt=lambda name: tuple(MEANS[name])
    )


def test_a_neighbour_is_heard_whole(bundle):
    told = prompt([0.0, 1.0])
    assert heard_prompts(bundle, "mri", {"ct": told}) == {"ct": told}


def test_a_stranger_is_heard_by_its_pooled_vector_in_a_neighbours_region(bundle):
    heard = heard_prompts(bundle, "mri", {"text": prompt([0.8, 0.6])})
    assert list(heard) == ["ct"]
    found = heard["ct"]
    assert found.tokens.shape == (1, 1, 2)  # the null token alone
    moved = torch.tensor([[0.8 - 1.0 + 0.0, 0.6 - 0.0 + 1.0]])
    assert torch.allclose(found.pooled, moved / moved.norm())


def test_a_stranger_takes_no_place_that_is_taken_and_none_without_a_mean(bundle):
    told = prompt([0.0, 1.0])
    assert heard_prompts(bundle, "mri", {"ct": told, "text": prompt([1.0, 0.0])}) == {"ct": told}
    assert heard_prompts(bundle, "mri", {"xray": prompt([1.0, 0.0])}) == {}


def test_an_output_never_prompts_itself(bundle):
    assert heard_prompts(bundle, "ct", {"ct": prompt([0.0, 1.0])}) == {}


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
