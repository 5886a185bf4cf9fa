"""Several prompts in one conditioning: which tokens are visible, and what a dropped prompt leaves (E4, E6)."""

import pytest
import torch

from core.diffuse.prompts import PromptAssembly
from core.engine.rng import forked_rng
from core.types import Prompt

WIDTH = 6


def prompt(seed, rows=3, length=4, masked=0):
    draws = torch.Generator().manual_seed(seed)
    mask = torch.ones(rows, length, dtype=torch.bool)
    mask[:, length - masked :] = False
    pooled = torch.nn.functional.normalize(torch.randn(rows, WIDTH, generator=draws), dim=-1)
    return Prompt(tokens=torch.randn(rows, length, WIDTH, generator=draws), pooled=pooled, mask=mask)


@pytest.fixture
def assembly():
    with forked_rng(0):
        return PromptAssembly(WIDTH, ("text", "image"))


NONE, ALL = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)


def test_order_and_mask(assembly):
    """The null token, then of every prompt its pooled vector and its tokens but for its own null token."""
    text, image = prompt(1, masked=1), prompt(2, length=3)
    found = assembly({"text": text, "image": image}, NONE)
    assert found.prompt.shape == (3, 1 + 4 + 3, WIDTH)
    assert torch.equal(found.prompt[:, 0], assembly.null.expand(3, -1))
    assert torch.equal(found.prompt[:, 1], text.pooled + assembly.source["from_text"])
    assert torch.equal(found.prompt[:, 2:5], text.tokens[:, 1:] + assembly.source["from_text"])
    assert torch.equal(found.prompt[:, 5], image.pooled + assembly.source["from_image"])
    assert found.prompt_mask.tolist() == [[True, True, True, True, False, True, True, True]] * 3
    assert torch.equal(found.pooled, (text.pooled + image.pooled) / 2), "mixed, and not normalised again (E4)"


def test_a_dropped_row_keeps_the_null_token_alone(assembly):
    drop = torch.tensor([False, True, False])
    found = assembly({"text": prompt(1)}, drop)
    kept = assembly({"text": prompt(1)}, NONE)
    assert found.prompt_mask[1].tolist() == [True, False, False, False, False]
    assert (found.pooled[1] == 0).all()
    for row in (0, 2):
        assert found.prompt_mask[row].all()
        assert torch.equal(found.pooled[row], kept.pooled[row])


def test_no_prompt_is_the_null_prompt(assembly):
    """``{}`` says what a prompt that was dropped says, whether or not the denoiser reads the pooled vector."""
    empty, dropped = assembly({}, NONE), assembly({"text": prompt(1)}, ALL)
    assert empty.prompt.shape == (3, 1, WIDTH)
    assert torch.equal(empty.prompt, dropped.prompt[:, :1])
    assert empty.prompt_mask.all()
    assert torch.equal(empty.pooled, torch.zeros(3, WIDTH))
    assert torch.equal(empty.pooled, dropped.pooled)


def test_a_modality_may_be_called_like_an_attribute_of_a_module():
    names = ("training", "keys", "forward", "parameters", "pop")
    assembly = PromptAssembly(WIDTH, names)
    found = assembly({name: prompt(place) for place, name in enumerate(names)}, NONE)
    assert found.prompt.shape[1] == 1 + 4 * len(names)
    assert {key for key in assembly.state_dict() if key != "null"} == {f"source.from_{name}" for name in names}
    assembly.load_state_dict(PromptAssembly(WIDTH, names).state_dict())
    assert len(list(assembly.train().parameters())) == 1 + len(names)


def test_the_null_token_and_the_sources_are_trained(assembly):
    assembly({"text": prompt(1)}, NONE).prompt.sum().backward()
    assert (assembly.null.grad != 0).all()
    assert (assembly.source["from_text"].grad != 0).all()
    assert assembly.source["from_image"].grad is None
