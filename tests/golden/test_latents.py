"""E7: the latent scale, measured over everything, and refused when missing."""

import pytest
import torch

from core.encode.latents import fit_scale, scaled, unscaled
from core.errors import UserError
from core.types import LatentSpec

SPEC = LatentSpec(channels=3, space=(4, 5))


def latents(seed=0, batches=6):
    draws = torch.Generator().manual_seed(seed)
    factor, offset = torch.tensor([0.1, 5.0, 40.0]).view(1, 3, 1, 1), torch.tensor([1000.0, -3.0, 0.0]).view(1, 3, 1, 1)
    return [torch.randn(7 + i, 3, 4, 5, generator=draws) * factor * (1 + i) + offset for i in range(batches)]


def test_scale_is_that_of_all_batches_together():
    batches = latents()
    everything = torch.cat(batches).double().movedim(1, -1).reshape(-1, 3)
    spec = fit_scale(SPEC, iter(batches))
    assert spec.fitted
    assert torch.allclose(torch.tensor(spec.shift, dtype=torch.float64), everything.mean(0), rtol=1e-9)
    assert torch.allclose(1 / torch.tensor(spec.scale).double(), everything.std(0, correction=0), rtol=1e-5)


def test_one_batch_would_have_given_another_scale():
    batches = latents()
    assert fit_scale(SPEC, batches[:1]).scale[0] > 2 * fit_scale(SPEC, batches).scale[0]


def test_scaled_latents_have_unit_variance_per_channel_and_come_back():
    batches = latents()
    spec = fit_scale(SPEC, batches)
    z = scaled(torch.cat(batches), spec)
    assert torch.allclose(z.movedim(1, -1).reshape(-1, 3).std(0, correction=0), torch.ones(3), atol=1e-3)
    assert torch.allclose(unscaled(z, spec), torch.cat(batches), rtol=1e-4, atol=1e-3)


def test_a_vector_latent_is_scaled_too():
    vectors = [torch.randn(50, 8, generator=torch.Generator().manual_seed(1)) * 3 + 2]
    spec = fit_scale(LatentSpec(channels=8, space=()), vectors)
    assert torch.allclose(scaled(vectors[0], spec).std(0, correction=0), torch.ones(8), atol=1e-4)


@pytest.mark.parametrize("function", [scaled, unscaled])
def test_a_missing_scale_is_refused(function):
    with pytest.raises(UserError, match="the latent scale is missing: train the phase 'autoencoder'"):
        function(torch.zeros(1, 3, 4, 5), SPEC)


def test_a_constant_channel_is_refused_by_number():
    batch = torch.randn(9, 3, 4, 5)
    batch[:, 1] = 0.5
    with pytest.raises(UserError, match=r"latent channels \[1\] are constant"):
        fit_scale(SPEC, [batch])


def test_a_diverged_autoencoder_is_refused():
    with pytest.raises(UserError, match="not finite"):
        fit_scale(SPEC, [torch.full((2, 3, 4, 5), float("nan"))])


def test_no_latent_at_all_is_refused():
    with pytest.raises(UserError, match="training split is empty"):
        fit_scale(SPEC, [])
