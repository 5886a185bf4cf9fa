"""What is particular to diffusers and to MONAI."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch


def test_stable_diffusion_keeps_its_parameter_count():
    """method section 4: SD 1.5 has 859,520,964."""
    from diffusers import UNet2DConditionModel

    from core.nn import install_diffusers_sites

    with torch.device("meta"):
        network = UNet2DConditionModel(cross_attention_dim=768)
        names = [name for name, _ in network.named_parameters()]
        sites = install_diffusers_sites(network)
    assert len(sites) == 16
    assert sum(parameter.numel() for parameter in network.parameters()) == 859_520_964
    assert [name for name, _ in network.named_parameters()] == names


def test_attention_processors_never_see_the_context(
    diffusers_kind, new_conditioning, attach_fresh, width_of, monkeypatch
):
    from diffusers.models import attention, attention_processor

    def fail(*message, **_):
        raise AssertionError(message)

    for module in (attention, attention_processor):
        monkeypatch.setattr(module.logger, "warning", fail)
    network, sites = diffusers_kind.ready()
    attach_fresh(sites, width_of)
    conditioning = new_conditioning()
    with pytest.raises(AssertionError):  # the trap works: unknown arguments do warn
        next(iter(sites.values())).attn1(torch.zeros(1, 4, 8), unheard_of=1)
    diffusers_kind.run(network, diffusers_kind.noisy(), conditioning)


def test_the_arguments_of_the_caller_stay_as_they_are(diffusers_kind, new_conditioning, attach_fresh, width_of):
    network, sites = diffusers_kind.ready()
    attach_fresh(sites, width_of)
    conditioning = new_conditioning()
    kwargs = {"context": conditioning.context}
    network(diffusers_kind.noisy(), 5, conditioning.prompt, cross_attention_kwargs=kwargs)
    assert kwargs == {"context": conditioning.context}


def test_monai_with_a_mask_of_ones_is_monai_without(monai_kind, new_conditioning):
    network, _ = monai_kind.ready()
    conditioning = replace(new_conditioning(), prompt_mask=None)
    without = monai_kind.run(network, monai_kind.noisy(), conditioning)
    ones = torch.ones(conditioning.prompt.shape[:2], dtype=torch.bool)
    masked = monai_kind.run(network, monai_kind.noisy(), replace(conditioning, prompt_mask=ones))
    torch.testing.assert_close(without, masked, rtol=1e-5, atol=1e-5)


def test_masked_attention_is_upcast_as_in_monai(new_conditioning, randomised):
    from monai.networks.nets import DiffusionModelUNet

    from core.nn import install_monai_sites

    network = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        num_res_blocks=1,
        channels=(8,),
        attention_levels=(True,),
        norm_num_groups=4,
        num_head_channels=8,
        with_conditioning=True,
        cross_attention_dim=12,
        upcast_attention=True,
    )
    install_monai_sites(randomised(network))
    conditioning = replace(new_conditioning(), context=None)
    noisy = torch.randn(2, 1, 4, 4)
    found = network(noisy, torch.ones(2), context=conditioning)
    cut = replace(conditioning, prompt=conditioning.prompt[:, :3], prompt_mask=None)
    torch.testing.assert_close(found, network(noisy, torch.ones(2), context=cut), rtol=1e-4, atol=1e-5)


def test_monai_without_conditioning_has_no_sites():
    from monai.networks.nets import DiffusionModelUNet

    from core.nn import install_monai_sites

    network = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        num_res_blocks=1,
        channels=(8, 8),
        attention_levels=(False, True),
        norm_num_groups=4,
        num_head_channels=8,
    )
    assert install_monai_sites(network, gradient_checkpointing=True) == {}
    assert network(torch.randn(1, 1, 4, 4), torch.ones(1)).shape == (1, 1, 4, 4)
