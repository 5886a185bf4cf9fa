"""Sampling needs the scale that the phase ``autoencoder`` has measured (method E7)."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core.config.registry import load_registry
from core.config.run_config import Flags, resolve
from core.errors import UserError
from core.flow.run import start_run
from core.generate.bundle import Bundle
from core.generate.networks import Networks
from core.generate.pipeline import decoded
from core.testing.toy import TOY_GRID, TOY_VECTOR

REGISTRY = load_registry(Path(__file__).parents[3] / "registry.toml")
TOYS = {one.name: one for one in (TOY_VECTOR, TOY_GRID)}


@pytest.fixture
def bundle(tmp_path):
    """A run of which no stage is finished."""
    run = start_run(resolve(REGISTRY, TOYS, Flags(flow="toy_vector-toy_grid")), TOYS)
    here = SimpleNamespace(to_device=lambda value: value, is_main=True)
    return Bundle(run, Networks(run.weight_sets, {}, tmp_path, 0, here))


def test_latents_without_a_scale_are_not_decoded(bundle):
    with pytest.raises(UserError) as refusal:
        decoded(bundle, "toy_grid", torch.zeros(1, 2, 4, 4))
    assert str(refusal.value) == (
        "'toy_grid' has no latent scale yet: run the phase 'autoencoder' too (--phase autoencoder,...)"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": [float("nan"), 1.0]},
        {"scale": [0.0, 1.0]},
        {"shift": [float("inf"), 0.0]},
        {"scale": [1.0]},
        {"scale": "high"},
        {"scale": None},
        {"former": 1},
        {"space": 4},
    ],
)
def test_a_record_that_is_no_scale_is_refused(bundle, changed):
    about = {"space": [4, 4], "channels": 2, "scale": [2.0, 2.0], "shift": [0.0, 0.0], **changed}
    bundle.networks._about["toy_grid.autoencoder"] = {"latents": {"toy_grid": about}}
    with pytest.raises(UserError, match="'toy_grid': the run records no usable scale of its latents"):
        bundle.latent_spec("toy_grid")


def test_latents_that_are_not_finite_are_not_decoded(bundle):
    latents = torch.zeros(1, 2, 4, 4)
    latents[0, 1, 2, 3] = float("nan")
    with pytest.raises(UserError, match="'toy_grid': what was generated is not finite"):
        decoded(bundle, "toy_grid", latents)


def test_the_scale_of_another_modality_is_not_taken(bundle):
    """An autoencoder that several share has measured some of them only."""
    about = {"space": [4, 4], "channels": 2, "scale": [2.0, 2.0], "shift": [0.0, 0.0]}
    bundle.networks.save("autoencoder", "toy_grid.autoencoder", latents={"toy_grid": about})
    assert bundle.latent_spec("toy_grid").scale == (2.0, 2.0)
    bundle.networks.save("autoencoder", "toy_grid.autoencoder", latents={"toy_view": about})
    with pytest.raises(UserError, match="'toy_grid' has no latent scale yet"):
        bundle.latent_spec("toy_grid")
