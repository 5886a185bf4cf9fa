"""The denoiser parts behind the `Denoiser` protocol."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import nn

from core.contract.modality import Denoiser
from core.errors import UserError
from core.nn import ContextAttention, GridDenoiserConfig, VectorDenoiserConfig, universal_timestep

PLANE = GridDenoiserConfig(
    channels=3,
    space=(8, 4),
    widths=(8, 16, 16),
    attention=(True, True, False),
    num_blocks=1,
    head_width=(4, 8, 16),
    prompt_width=12,
    norm_groups=4,
)
VOLUME = PLANE.model_copy(update={"space": (4, 8, 4), "attention": (False, True, True)})
VECTOR = VectorDenoiserConfig(width=6, model_width=8, prompt_width=12, num_heads=2, norm_groups=4)
LEVEL = torch.tensor([-3.0, 2.0])


@pytest.fixture(params=[PLANE, VOLUME, VECTOR], ids=["plane", "volume", "vector"])
def config(request):
    return request.param


def build(config, randomised, **changes):
    torch.manual_seed(0)
    return randomised(config.model_copy(update=changes).build())


def latent(config, seed=1):
    shape = (config.width,) if isinstance(config, VectorDenoiserConfig) else (config.channels, *config.space)
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))


def attention_sites(denoiser):
    return [site for site in denoiser.context_sites() if site.kind == "attention"]


def attach_everywhere(denoiser, randomised, *, trained=True):
    torch.manual_seed(1)
    for site in attention_sites(denoiser):
        module = ContextAttention(site.width, 10, 2)
        denoiser.attach(site.name, randomised(module) if trained else module)


class Probe(nn.Module):
    """Notes the shape of the hidden tokens and changes nothing."""

    def __init__(self):
        super().__init__()
        self.seen = None

    def forward(self, hidden, context):
        self.seen = tuple(hidden.shape)
        return torch.zeros_like(hidden)


def test_it_implements_the_protocol_and_the_shape(config, randomised, new_conditioning):
    denoiser = build(config, randomised)
    assert isinstance(denoiser, Denoiser)
    output = denoiser(latent(config), LEVEL, new_conditioning())
    assert output.shape == latent(config).shape
    assert output.abs().mean() > 1e-3


def test_every_site_states_its_true_width_and_grid(config, randomised, new_conditioning):
    denoiser = build(config, randomised)
    probes = {site: Probe() for site in attention_sites(denoiser)}
    for site, probe in probes.items():
        denoiser.attach(site.name, probe)
    denoiser(latent(config), LEVEL, new_conditioning())
    assert len(probes) >= 5
    for site, probe in probes.items():
        assert probe.seen == (2, math.prod(site.grid), site.width), site


def test_grids_are_listed_level_by_level():
    grids = {site.name.split(".attentions")[0]: site.grid for site in attention_sites(PLANE.build())}
    assert grids == {
        "down_blocks.0": (8, 4),
        "down_blocks.1": (4, 2),
        "mid_block": (2, 1),
        "up_blocks.1": (4, 2),
        "up_blocks.2": (8, 4),
    }
    assert {site.grid for site in attention_sites(VOLUME.build())} == {(2, 4, 2), (1, 2, 1)}
    assert {site.grid for site in attention_sites(VECTOR.build())} == {(4,)}


def test_attaching_is_bit_equal_and_adds_what_the_docstring_says(config, randomised, new_conditioning):
    denoiser, conditioning = build(config, randomised), new_conditioning()
    before = denoiser(latent(config), LEVEL, replace(conditioning, context=None))
    names = set(dict(denoiser.named_parameters()))
    attach_everywhere(denoiser, randomised, trained=False)
    assert torch.equal(before, denoiser(latent(config), LEVEL, conditioning))
    added = set(dict(denoiser.named_parameters())) - names
    prefixes = {name.split(".context_attention.")[0] for name in added}
    assert prefixes == {f"network.{site.name}" for site in attention_sites(denoiser)}


def test_noise_level_prompt_and_context_all_count(config, randomised, new_conditioning, new_context):
    denoiser, conditioning = build(config, randomised), new_conditioning()
    attach_everywhere(denoiser, randomised)
    noisy = latent(config)
    first = denoiser(noisy, LEVEL, conditioning)
    for other in (
        denoiser(noisy, LEVEL + 1, conditioning),
        denoiser(noisy, LEVEL, replace(conditioning, prompt=conditioning.prompt.flip(0))),
        denoiser(noisy, LEVEL, replace(conditioning, context=new_context(77))),
    ):
        assert (first - other).abs().max() > 1e-5


def test_log_snr_becomes_the_network_s_timestep(randomised, new_conditioning):
    denoiser, conditioning = build(PLANE, randomised), replace(new_conditioning(), context=None)
    level = torch.tensor([7.5, -20.0])
    timestep = universal_timestep(level)
    assert timestep.tolist() == pytest.approx([14.954, 998.971], abs=0.001)
    expected = denoiser.network(
        latent(PLANE),
        timestep,
        conditioning.prompt,
        encoder_attention_mask=conditioning.prompt_mask,
    ).sample
    found = denoiser(latent(PLANE), level, conditioning)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_threads_do_not_influence_each_other(config, randomised, new_conditioning, new_context):
    denoiser = build(config, randomised).eval()
    attach_everywhere(denoiser, randomised)
    conditionings = [new_conditioning(seed, context=new_context(seed)) for seed in (2, 50)]

    def run(index):
        with torch.no_grad():
            return [denoiser(latent(config), LEVEL, conditionings[index]) for _ in range(6)]

    expected = [run(0)[0], run(1)[0]]
    assert (expected[0] - expected[1]).abs().max() > 1e-4
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, (0, 1)))
    for index in (0, 1):
        for output in found[index]:
            torch.testing.assert_close(output, expected[index], rtol=1e-6, atol=1e-6)


def test_checkpointing_is_an_option_of_the_config(config, randomised, new_conditioning):
    kept = {}
    gradients = {}
    for checkpointed in (False, True):
        denoiser = build(config, randomised, gradient_checkpointing=checkpointed).double()
        conditioning = replace(new_conditioning(), context=None)
        prompt = conditioning.prompt.double().requires_grad_()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            output = denoiser(latent(config).double(), LEVEL, replace(conditioning, prompt=prompt))
        output.square().sum().backward()
        kept[checkpointed], gradients[checkpointed] = sum(sizes), prompt.grad
    assert kept[True] < 0.7 * kept[False]
    assert gradients[False].abs().max() > 1e-4
    torch.testing.assert_close(gradients[False], gradients[True], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("config", [PLANE, VOLUME], ids=["plane", "volume"])
def test_a_pooled_vector_counts_where_it_is_configured(config, randomised, new_conditioning):
    denoiser = build(config, randomised, pooled_width=7)
    conditioning = new_conditioning(pooled=torch.randn(2, 7))
    first = denoiser(latent(config), LEVEL, conditioning)
    other = denoiser(latent(config), LEVEL, replace(conditioning, pooled=-conditioning.pooled))
    assert (first - other).abs().max() > 1e-4
    with pytest.raises(UserError, match="needs a pooled vector of width 7"):
        denoiser(latent(config), LEVEL, new_conditioning())
    with pytest.raises(UserError, match="pooled vector of width 7, found 3"):
        denoiser(latent(config), LEVEL, new_conditioning(pooled=torch.randn(2, 3)))


def test_wrong_latents_and_prompts_are_named(config, new_conditioning):
    denoiser = config.build()
    with pytest.raises(UserError, match=r"takes latents .* found \(1,\)"):
        denoiser(torch.zeros(2, 1), LEVEL, new_conditioning())
    with pytest.raises(UserError, match="prompt tokens of width 12, found 5"):
        denoiser(latent(config), LEVEL, new_conditioning(width=5))


def test_wrong_sites_are_named(config):
    denoiser = config.build()
    name = denoiser.context_sites()[0].name
    with pytest.raises(UserError, match="no site 'nowhere'"):
        denoiser.attach("nowhere", nn.Identity())
    denoiser.attach(name, nn.Identity())
    with pytest.raises(UserError, match="already holds"):
        denoiser.attach(name, nn.Identity())


def test_state_dict_round_trip(config, randomised, new_conditioning):
    first, second = build(config, randomised), config.build()
    second.load_state_dict(first.state_dict())
    output = [denoiser(latent(config), LEVEL, new_conditioning()) for denoiser in (first, second)]
    assert torch.equal(*output)


def test_the_stable_diffusion_shape_can_be_configured():
    config = GridDenoiserConfig(
        channels=4,
        space=(64, 64),
        widths=(320, 640, 1280, 1280),
        attention=(True, True, True, False),
        head_width=(40, 80, 160, 160),
        prompt_width=768,
    )
    with torch.device("meta"):
        denoiser = config.build()
    assert sum(parameter.numel() for parameter in denoiser.parameters()) == 859_520_964
    assert len(attention_sites(denoiser)) == 16
    assert len(denoiser.context_sites()) == 16 + 1 + 4 + 1 + 1, "input, every resolution, middle, summary"


def test_the_versatile_diffusion_text_unet_has_1708_85_million_parameters():
    """The parameter count of method E11."""
    with torch.device("meta"):
        denoiser = VectorDenoiserConfig().build()
    assert sum(parameter.numel() for parameter in denoiser.parameters()) == 1_708_850_368
    assert len(attention_sites(denoiser)) == 6 + 1 + 9
