"""The grid autoencoders (method section 3)."""

from __future__ import annotations

import pytest
import torch

from core.contract.modality import Autoencoder
from core.nn import GridAutoencoderConfig
from core.types import Batch, LatentSpec, Posterior

PLANE = GridAutoencoderConfig(
    channels=2, space=(8, 16), latent_channels=3, downsample=4, widths=(4, 8, 8), num_blocks=1, norm_groups=4
)
VOLUME = PLANE.model_copy(update={"space": (4, 8, 8)})
FOLDED = [config.model_copy(update={"patch": 2, "widths": (4, 8)}) for config in (PLANE, VOLUME)]


@pytest.fixture(params=[PLANE, VOLUME, *FOLDED], ids=["plane", "volume", "plane of patches", "volume of patches"])
def config(request):
    return request.param


def build(config, randomised, **changes):
    torch.manual_seed(0)
    return randomised(config.model_copy(update=changes).build())


def batch_for(config, size=2, seed=1):
    data = torch.rand(size, config.channels, *config.space, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Batch(modality="thing", data=data)


def test_it_implements_the_protocol_and_its_spec(config, randomised):
    autoencoder, batch = build(config, randomised), batch_for(config)
    assert isinstance(autoencoder, Autoencoder)
    assert autoencoder.spec == LatentSpec(channels=3, space=tuple(s // 4 for s in config.space), downsample=4)
    posterior = autoencoder.encode(batch)
    assert posterior.mean.shape == posterior.logvar.shape == (2, 3, *autoencoder.spec.space)
    decoded = autoencoder.decode(posterior.mean)
    assert decoded.data.shape == batch.data.shape
    assert decoded.modality == ""


def test_the_posterior_is_the_library_s(randomised):
    plane, volume = build(PLANE, randomised), build(VOLUME, randomised)
    found, batch = plane.encode(batch_for(PLANE)), batch_for(PLANE)
    torch.testing.assert_close(found.mean, plane.network.encode(batch.data).latent_dist.mean)
    torch.testing.assert_close(found.logvar, plane.network.encode(batch.data).latent_dist.logvar)
    found, (mean, sigma) = volume.encode(batch_for(VOLUME)), volume.network.encode(batch_for(VOLUME).data)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close((found.logvar / 2).exp(), sigma)


def test_decoded_values_are_left_beyond_the_range(config, randomised):
    autoencoder = build(config, randomised)
    latent = 50 * torch.randn(2, 3, *autoencoder.spec.space, generator=torch.Generator().manual_seed(0))
    assert autoencoder.decode(latent).data.abs().max() > 1


def test_the_loss_is_an_l1_error_and_a_divergence_per_element(config, randomised):
    autoencoder, batch = build(config, randomised, kl_weight=0.01), batch_for(config)
    terms = autoencoder.loss(batch, torch.Generator().manual_seed(3))
    posterior = autoencoder.encode(batch)
    normal = torch.distributions.Normal(posterior.mean, (posterior.logvar / 2).exp())
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    divergence = torch.distributions.kl_divergence(normal, standard).mean()
    latent = posterior.draw(torch.Generator().manual_seed(3))
    expected = (autoencoder.decode(latent).data - batch.data).abs().mean()
    assert set(terms) == {"reconstruction", "kl"}
    torch.testing.assert_close(terms["kl"], 0.01 * divergence, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(terms["reconstruction"], expected)


def test_the_draw_comes_from_the_generator_only(config, randomised):
    autoencoder, batch = build(config, randomised), batch_for(config)
    before = torch.get_rng_state()
    losses = [autoencoder.loss(batch, torch.Generator().manual_seed(seed))["reconstruction"] for seed in (3, 3, 4)]
    assert torch.equal(before, torch.get_rng_state())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_standard_normal_posterior_has_no_divergence():
    from core.nn.autoencoders.kl import divergence

    zero = torch.zeros(2, 3, 4)
    assert torch.equal(divergence(Posterior(mean=zero, logvar=zero)), torch.zeros(2))
    assert torch.equal(divergence(Posterior(mean=zero + 1, logvar=zero)), torch.full((2,), 0.5))


def test_the_divergence_does_not_grow_with_the_resolution():
    from core.nn.autoencoders.kl import divergence

    draws = torch.Generator().manual_seed(2)
    mean, logvar = torch.randn(2, 3, 4, 4, generator=draws), torch.randn(2, 3, 4, 4, generator=draws)
    small = Posterior(mean=mean, logvar=logvar)
    large = Posterior(mean=mean.repeat(1, 1, 3, 2), logvar=logvar.repeat(1, 1, 3, 2))
    torch.testing.assert_close(divergence(small), divergence(large))


def test_gradients_reach_every_parameter_with_and_without_checkpointing(config, randomised):
    found = []
    for checkpointed in (False, True):
        autoencoder = build(config, randomised, kl_weight=1.0, gradient_checkpointing=checkpointed).double()
        batch = Batch(modality="thing", data=batch_for(config).data.double())
        sum(autoencoder.loss(batch, torch.Generator().manual_seed(0)).values()).backward()
        found.append({name: parameter.grad for name, parameter in autoencoder.named_parameters()})
    for name, gradient in found[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-6, atol=1e-6, msg=name)


def test_training_lowers_the_loss(config):
    torch.manual_seed(0)
    autoencoder, batch, generator = config.build(), batch_for(config), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(autoencoder.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = sum(autoencoder.loss(batch, generator).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_become_channels_as_torch_shuffles_pixels(patch):
    from core.nn.autoencoders.kl import to_channels, to_points

    data = torch.arange(2 * 3 * 8 * 4).view(2, 3, 8, 4)
    found = to_channels(data, patch)
    assert torch.equal(found, torch.nn.functional.pixel_unshuffle(data, patch))
    assert torch.equal(to_points(found, patch), data)


def test_patches_of_a_volume_hold_neighbours():
    from core.nn.autoencoders.kl import to_channels, to_points

    data = torch.arange(3 * 4 * 8 * 2).view(1, 3, 4, 8, 2)
    found = to_channels(data, 2)
    assert found.shape == (1, 24, 2, 4, 1)
    assert found[0, 8:16, 1, 3, 0].tolist() == data[0, 1, 2:4, 6:8, 0:2].flatten().tolist()
    assert torch.equal(to_points(found, 2), data)
