import random

import numpy as np
import pytest
import torch

from core.io import centred
from core.preprocess import AugmenterConfig
from core.types import Sample

STILL = {"rotation_deg": 0, "scale": 0, "shift": 0, "gamma": 0, "blur": 0, "noise": 0}
FULL = AugmenterConfig(window=0.1, bias_field=0.3)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def sample(shape, spacing=None):
    axes = np.meshgrid(*(np.linspace(0, 3, size) for size in shape), indexing="ij")
    data = np.tanh(np.sin(sum(axes)))[None].astype(np.float32)
    letters = "PL" if len(shape) == 2 else "SPL"
    return Sample(modality="m", data=data, geometry=centred(shape, spacing or (1.0,) * len(shape), letters))


SHAPES = [(32, 32), (17, 40), (9, 16, 12)]


@pytest.mark.parametrize("shape", SHAPES)
def test_seeded_bounded_and_without_global_randomness(shape):
    views, data = FULL.build(), sample(shape)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()  # noqa: NPY002
    first, again, other = views.view(data, seeded(1)), views.view(data, seeded(1)), views.view(data, seeded(2))
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())  # noqa: NPY002
    assert np.array_equal(first.data, again.data)
    assert first.geometry == again.geometry
    assert not np.array_equal(first.data, other.data)
    assert first.data.dtype == np.float32
    assert first.data.shape == data.data.shape
    assert np.abs(first.data).max() <= 1


def test_a_generator_gives_different_views():
    generator, views, data = seeded(0), FULL.build(), sample((16, 16))
    assert not np.array_equal(views.view(data, generator).data, views.view(data, generator).data)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_configured_nothing_changed(shape):
    data = sample(shape)
    result = AugmenterConfig(**STILL).build().view(data, seeded(0))
    assert np.allclose(result.data, data.data, atol=1e-6)
    assert np.array_equal(result.geometry.affine, data.geometry.affine)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "change",
    [
        {"rotation_deg": 10},
        {"scale": 0.2},
        {"shift": 0.1},
        {"gamma": 0.5},
        {"window": 0.3},
        {"bias_field": 0.5},
        {"blur": 2},
        {"noise": 0.2},
    ],
)
def test_each_change_acts_alone(shape, change):
    result = AugmenterConfig(**{**STILL, **change}).build().view(sample(shape), seeded(3))
    assert not np.allclose(result.data, sample(shape).data, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((48, 64), (1.0, 1.0)), ((64, 40), (0.5, 2.0)), ((24, 32, 28), (3.0, 1.0, 2.0))]
)
def test_geometry_is_truthful(shape, spacing):
    """A blob's centre of mass stays where it is in the world while its pixels move."""
    axes = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    blob = np.exp(-sum(((axis - 0.55 * size) / (size / 10)) ** 2 for axis, size in zip(axes, shape, strict=True)))
    source = sample(shape, spacing)
    source = Sample(modality="m", data=(blob * 2 - 1)[None].astype(np.float32), geometry=source.geometry)
    config = AugmenterConfig(**{**STILL, "rotation_deg": 20, "scale": 0.1, "shift": 0.05})

    def centre(view):
        weight = view.data[0] + 1.0
        at = [float((axis * weight).sum() / weight.sum()) for axis in axes]
        return np.array(at), view.geometry.affine[:3, : len(at)] @ at + view.geometry.affine[:3, 3]

    for seed in range(4):
        view = config.build().view(source, seeded(seed))
        (index, world), (old_index, old_world) = centre(view), centre(source)
        assert np.abs(index - old_index).max() > 0.2
        assert np.abs(world - old_world).max() < 0.15 * max(spacing)


def test_rotation_is_rigid_in_mm():
    """On anisotropic pixels too: the new axes are as orthogonal as the old ones, lengths change by the scale only."""
    config = AugmenterConfig(**{**STILL, "rotation_deg": 30, "scale": 0.1})
    result = config.build().view(sample((12, 16, 20), (5.0, 1.0, 2.0)), seeded(1))
    lengths = np.array(result.geometry.spacing_mm) / (5.0, 1.0, 2.0)
    affine = result.geometry.affine[:3, :3]
    # Index axes shear, but the map as a whole is a similarity: M M^T is a multiple of S S^T.
    before = sample((12, 16, 20), (5.0, 1.0, 2.0)).geometry.affine[:3, :3]
    change = affine @ np.linalg.inv(before)
    assert np.allclose(change @ change.T, np.eye(3) * np.linalg.det(change) ** (2 / 3))
    assert (lengths > 0).all()


def test_sides_stay():
    left = sample((32, 32))
    ramp = np.broadcast_to(np.linspace(-0.9, 0.9, 32, dtype=np.float32), (1, 32, 32)).copy()
    for seed in range(30):
        view = FULL.build().view(Sample(modality="m", data=ramp, geometry=left.geometry), seeded(seed)).data[0]
        assert view[:, 16:].mean() > view[:, :16].mean()
    assert "side" in FULL.build().keeps


def test_drawn_settings_can_be_applied_again():
    views, data = FULL.build(), sample((9, 16, 12))
    settings = views.draw(seeded(5), 3)
    assert np.array_equal(views.apply(data, settings).data, views.view(data, seeded(5)).data)
    assert views.view(data, seeded(5)).meta["view"]["noise_seed"] == settings.noise_seed


def test_several_channels_move_together():
    data = np.repeat(sample((16, 16)).data, 3, 0)
    colour = Sample(modality="m", data=data, geometry=sample((16, 16)).geometry)
    result = AugmenterConfig(**{**STILL, "rotation_deg": 10}).build().view(colour, seeded(0)).data
    assert np.array_equal(result[0], result[2])
