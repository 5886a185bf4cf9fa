"""Context encoders describe their own modality, so that a listener of a later round can read it (decision 12)."""

import pytest
import torch

from core.config.recipe import GuideChoice
from core.engine.rng import make_generator
from core.guide.context_encoder import patches
from core.guide.losses import Description, guide_losses

SPATIAL = GuideChoice(context="spatial", levels="independent")
DESCRIBED = SPATIAL.model_copy(update={"description": True, "contrast": False})


def described(flows):
    torch.manual_seed(4)
    return Description({name: flow.environment for name, flow in flows.items()})


@pytest.fixture
def flows(new_flow):
    made = {name: new_flow(name, 40) for name in ("vector", "grid")}
    for flow in made.values():
        flow.attach()
    return made


@pytest.mark.parametrize("name", ["vector", "grid"])
def test_the_error_is_that_of_a_linear_reading_of_the_tokens(flows, name):
    flow, description = flows[name], described(flows)
    z, no = flow.latents[:5], torch.zeros(5, dtype=torch.bool)
    environment = flow.environment
    context = environment(z, torch.zeros(5), no)
    found = description(name, environment, context, z)
    # [null, summary, own tokens ..., f]: eight of f
    own = context.tokens[:, 2:-8]
    head = description.heads[name]
    rows = own.flatten(1)[:, None] if name == "vector" else own
    read = rows @ head.weight.T + head.bias
    expected = ((read - patches(z, environment.space)) ** 2).flatten(1).mean(1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_only_what_is_new_describes_itself_and_weight_scales_it(flows):
    description = described(flows)
    flows["vector"].environment.requires_grad_(False)
    states = {name: flow.state(slice(0, 6)) for name, flow in flows.items()}
    pair = [("vector", "grid")]

    def terms(weight):
        choice = DESCRIBED.model_copy(update={"description_weight": weight})
        return guide_losses(states, pair, make_generator(0, "described"), choice, description=description)

    one, half = terms(1.0), terms(0.5)
    (key,) = (name for name in one if "described" in name)
    assert key.startswith("grid")
    assert torch.allclose(half[key], one[key] / 2)
    assert not any("described" in name for name in guide_losses(states, pair, make_generator(0, "described"), SPATIAL))
    with pytest.raises(ValueError, match="give the Description"):
        guide_losses(states, pair, make_generator(0, "described"), DESCRIBED)


def test_a_grid_in_one_token_is_refused(new_flow):
    pooled = new_flow("grid", choice=GuideChoice(context="pooled")).environment
    with pytest.raises(ValueError, match="one token"):
        Description({"grid": pooled})
