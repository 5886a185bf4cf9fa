"""Parts that do not fit each other are refused before the first step, with both sizes."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.config.registry import load_registry
from core.config.run_config import Flags, resolve
from core.contract.modality import PartConfig
from core.errors import UserError
from core.flow.run import start_run
from core.plan.compatibility import _Built, require_compatible
from core.testing.toy import TOY_GRID, TOY_VECTOR

REGISTRY = load_registry(Path(__file__).parents[3] / "registry.toml")
TOYS = {modality.name: modality for modality in (TOY_GRID, TOY_VECTOR)}


class Bare(PartConfig):
    def build(self):
        import torch

        return torch.nn.Linear(1, 1)


class Computes(PartConfig):
    """Reads a number while it is built, which no part without memory can."""

    good: bool = True

    def build(self):
        import torch

        from core.testing.toy import ToyDenoiserConfig

        torch.ones(1).item()
        if not self.good:
            raise ValueError("sizes do not divide")
        return ToyDenoiserConfig(channels=2, space=(4, 4)).build()


def fit(*settings, phase=None, denoiser=None):
    toys = dict(TOYS)
    if denoiser is not None:
        parts = replace(TOY_GRID.parts("tiny"), denoiser=denoiser)
        toys["toy_grid"] = replace(TOY_GRID, presets={"tiny": parts})
    flags = Flags(flow="toy_vector-toy_grid", data="toy", set=settings, phase=phase)
    require_compatible(start_run(resolve(REGISTRY, toys, flags), toys))


@pytest.mark.parametrize("denoiser", [None, Computes()], ids=["the toys", "a part that computes while it is built"])
def test_the_toys_fit(monkeypatch, denoiser):
    """Nothing is refused, and it was looked at."""
    looked_at = []
    require_latents = _Built.require_latents

    def watch(built, name):
        looked_at.append(name)
        require_latents(built, name)

    monkeypatch.setattr(_Built, "require_latents", watch)
    fit(denoiser=denoiser)
    assert looked_at == ["toy_vector", "toy_grid"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["toy_grid.denoiser.channels=3"], "'toy_grid': its denoiser is built for latents (3, 4, 4), its autoencoder makes"),
        (["toy_grid.autoencoder.latent_channels=5"], "built for latents (2, 4, 4), its autoencoder makes (5, 4, 4)"),
        (["toy_grid.denoiser.prompt_width=8"], "'toy_grid': its denoiser takes prompts of width 8, the prompt encoder of"),
        (["toy_grid.denoiser.prompt_width=8"], "'toy_vector' gives 16; set toy_grid.denoiser.prompt_width"),
    ],
)  # fmt: skip
def test_sizes_that_differ(settings, expected):
    with pytest.raises(UserError) as caught:
        fit(*settings)
    assert expected in str(caught.value)


def test_one_space_for_a_pair():
    with pytest.raises(UserError, match=r"'toy_vector' and 'toy_grid' cannot be aligned: .* the widths 8 and 16"):
        fit("toy_vector.prompt.width=8", phase="align")


def test_only_what_a_phase_needs_must_fit():
    wrong = "toy_grid.denoiser.prompt_width=8"
    with pytest.raises(UserError, match="takes prompts of width 8"):
        fit(wrong)
    assert fit(wrong, phase="align") is None


def test_a_part_that_does_not_say_its_size():
    with pytest.raises(UserError, match=r"part 'toy_grid\.denoiser' of 'toy_grid': Linear has no 'latent_shape'"):
        fit(denoiser=Bare())


def test_a_part_that_cannot_be_built():
    with pytest.raises(UserError, match=r"part 'toy_grid\.denoiser' cannot be built: ValueError: sizes do not divide"):
        fit(denoiser=Computes(good=False))


class Pretrained(PartConfig):
    """A denoiser that knows what it was trained to predict before."""

    objective: str | None

    def build(self):
        from core.testing.toy import ToyDenoiserConfig

        denoiser = ToyDenoiserConfig(channels=2, space=(4, 4)).build()
        denoiser.pretrained_objective = self.objective
        return denoiser


def test_another_objective_than_that_of_the_pretrained_weights_is_refused():
    for known, chosen in (("v", "v"), (None, "v"), ("epsilon", "epsilon")):
        fit(f"diffuse.objective={chosen}", denoiser=Pretrained(objective=known))
    with pytest.raises(UserError, match=r"pretrained to predict 'v' .*, but diffuse\.objective is 'epsilon'; set"):
        fit("diffuse.objective=epsilon", denoiser=Pretrained(objective="v"))
    fit("diffuse.objective=epsilon", phase="autoencoder", denoiser=Pretrained(objective="v"))
