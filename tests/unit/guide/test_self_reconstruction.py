"""Contexts contain their own modality, so that a partner of a later round can read it (decision 0012)."""

import pytest
import torch

from core.config.recipe import GuideChoice
from core.engine.rng import make_generator
from core.guide.losses import SelfReconstructionHead
from core.guide.noisy_study import guide_losses

SPATIAL = GuideChoice(context="spatial", levels="independent")
RECONSTRUCTED = SPATIAL.model_copy(update={"description": True, "contrast": False})


def new_head(flows):
    torch.manual_seed(4)
    return SelfReconstructionHead({name: flow.context_encoder for name, flow in flows.items()})


@pytest.fixture
def flows(new_flow):
    made = {name: new_flow(name, 40) for name in ("vector", "grid")}
    for flow in made.values():
        flow.attach()
    return made


@pytest.mark.parametrize("name", ["vector", "grid"])
def test_the_error_is_that_of_a_linear_reading_of_the_tokens(flows, name):
    flow, reconstruction = flows[name], new_head(flows)
    z, no = flow.latents[:5], torch.zeros(5, dtype=torch.bool)
    context_encoder = flow.context_encoder
    context = context_encoder(z, torch.zeros(5), no)
    errors = reconstruction(name, context_encoder, context, z)
    # [null, summary, tokens of the latent ..., f]: eight of f
    tokens = context.tokens[:, 2:-8]
    head = reconstruction.heads[name]
    rows = tokens.flatten(1)[:, None] if name == "vector" else tokens
    read = rows @ head.weight.T + head.bias
    expected = ((read - context_encoder.patches.cut(z)) ** 2).flatten(1).mean(1)
    assert torch.allclose(errors, expected, atol=1e-6)


def test_only_new_encoders_are_reconstructed_from_and_weight_scales_it(flows):
    head = new_head(flows)
    flows["vector"].context_encoder.requires_grad_(False)
    states = {name: flow.state(slice(0, 6)) for name, flow in flows.items()}

    def terms(weight):
        choice = RECONSTRUCTED.model_copy(update={"description_weight": weight})
        return guide_losses(states, make_generator(0, "described"), choice, self_reconstruction=head)

    one, half = terms(1.0), terms(0.5)
    (key,) = (name for name in one if "self-reconstruction" in name)
    assert key.startswith("grid")
    assert torch.allclose(half[key], one[key] / 2)
    plain = guide_losses(states, make_generator(0, "described"), SPATIAL)
    assert not any("self-reconstruction" in name for name in plain)
    with pytest.raises(ValueError, match="give the SelfReconstructionHead"):
        guide_losses(states, make_generator(0, "described"), RECONSTRUCTED)


def test_a_grid_in_one_token_is_refused(new_flow):
    pooled = new_flow("grid", choice=GuideChoice(context="pooled")).context_encoder
    with pytest.raises(ValueError, match="one token"):
        SelfReconstructionHead({"grid": pooled})
