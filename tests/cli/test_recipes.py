"""Every recipe of a paper takes training steps at ``tiny`` by one command, without a warning, and generates."""

import warnings
from pathlib import Path

import pytest
import torch

from core.config.registry import load_registry
from core.engine.checkpoint import read_tensors
from core.errors import UserError
from core.generate.__main__ import main as generate
from core.train import main as train
from tests.unit.nn.prompts.clip_folder import write_two_encoders

ROOT = Path(__file__).parents[2]
PATIENTS = 40
SHORT = ["--steps", "2", "--set", "training.log_every=1", "--set", "sampler.steps=2"]
RECIPES = sorted(load_registry(ROOT / "registry.toml").recipes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small cohort."""
    from plugins.phantom.cohort import make_cohort

    folder = tmp_path_factory.mktemp("recipes")
    make_cohort(folder / "data/phantom", PATIENTS, 0, 1, False)
    return folder


def strict(call, arguments):
    """Call a command; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(arguments)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_and_generates(recipe, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("core.training.measure", lambda session: None)  # the same for all recipes, and slow
    given = []
    if recipe == "medisyn":
        write_two_encoders(folder / "sdxl")  # as Stable Diffusion XL has: tokens and pooled vector of unequal widths
        given = ["--set", "text.prompt.init_from=sdxl"]
    strict(train, ["--recipe", recipe, "--run", recipe, *SHORT, *given])
    assert "weights, log and configuration" in capsys.readouterr().out
    strict(generate, ["--run", recipe, "--out", f"{recipe}-out", "--prompt", "text=No acute findings.", "--num", "1"])
    assert list((folder / f"{recipe}-out").rglob("*xray_frontal*.png"))
    if recipe == "medisyn":
        weights = {path.parent.name for path in (folder / recipe / "diffuse").rglob("weights.safetensors")}
        assert {name for name in weights if "denoiser" in name} == {"image.denoiser"}, "one for all image types"


def test_encoders_may_be_given_by_an_earlier_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("core.training.measure", lambda session: None)
    strict(train, ["--recipe", "medm2g", "--phase", "align", "--run", "encoders", *SHORT])
    given = ["--set", "text.prompt.init_from=encoders"]
    strict(train, ["--recipe", "medisyn", "--flow", "text-ct", "--run", "given", *SHORT, *given])
    stored, trained = (
        read_tensors(folder / run / "align/text.prompt/weights.safetensors")[0] for run in ("given", "encoders")
    )
    assert stored.keys() == trained.keys()
    assert all(torch.equal(stored[name], value) for name, value in trained.items())


def test_given_encoders_need_a_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"'text\.prompt': give --set text\.prompt\.init_from=FOLDER"):
        train(["--recipe", "medisyn", "--run", "refused", *SHORT])
