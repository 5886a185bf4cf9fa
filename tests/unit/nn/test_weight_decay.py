"""Which weights of the project's own networks decay: layers' matrices and kernels, and nothing else."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from core.align.losses import Temperature
from core.config.recipe import GuideChoice
from core.contract.build import build_part
from core.engine.optimiser import decayed_parameters
from core.guide.attention import attach_guidance
from core.guide.context_encoder import new_context_encoder
from plugins.ct.modality import CT
from plugins.text.modality import TEXT

LAYERS = (nn.Linear, nn.modules.conv._ConvNd, Conv1D)
PARTS = [
    (modality, preset, part)
    for modality, presets in ((CT, ("tiny", "tiny3d")), (TEXT, ("tiny",)))
    for preset in presets
    for part in ("autoencoder", "prompt", "denoiser")
]


def network_of(modality, preset, part):
    torch.manual_seed(0)
    parts = modality.parts(preset)
    config = parts.declared()[part]
    return build_part(getattr(config, "config", config), f"{modality.name}.{part}", [modality.name])


def of_layers(network):
    """The weights of linear maps and convolutions, by the kind of their layer."""
    tables = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    return {
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, LAYERS) and id(module.weight) not in tables
    }


@pytest.mark.parametrize(("modality", "preset", "part"), PARTS, ids=lambda value: getattr(value, "name", value))
def test_layers_decay(modality, preset, part):
    network = network_of(modality, preset, part)
    decayed = decayed_parameters(network)
    assert decayed
    assert decayed == of_layers(network)
    sizes = {name: weight.numel() for name, weight in network.named_parameters()}
    assert sum(sizes[name] for name in decayed) > 0.5 * sum(sizes.values()), "most weights decay"


def test_tokens_tables_gains_and_temperature_do_not():
    image, text = network_of(CT, "tiny", "prompt"), network_of(TEXT, "tiny", "prompt")
    spared = {name for network in (image, text) for name, _ in network.named_parameters()}
    spared -= decayed_parameters(image) | decayed_parameters(text)
    assert "network.pos_embed" in spared
    assert any(name.endswith("word_embeddings.weight") for name in spared)
    assert decayed_parameters(Temperature(0.07)) == set()
    optimus = network_of(TEXT, "tiny", "autoencoder")
    assert not {name for name in decayed_parameters(optimus) if name.endswith(("wte.weight", "wpe.weight"))}


def test_contexts_decay_in_their_layers_only():
    denoiser, spec = network_of(CT, "tiny", "denoiser"), network_of(CT, "tiny", "autoencoder").spec
    geometry = CT.parts("tiny").data.default_geometry
    sites = attach_guidance(denoiser, geometry, context_width=32)
    choice = GuideChoice(context="spatial", adaptation=True, contrast=True)
    encoder = new_context_encoder(choice, spec, geometry, width=32, prompt_width=128)
    for network in (sites, encoder):
        assert decayed_parameters(network) == of_layers(network)
    assert any(name.endswith("phi_s") for name, _ in encoder.named_parameters())
    assert any(name.endswith("gain") for name, _ in sites.named_parameters())
