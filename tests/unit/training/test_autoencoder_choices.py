"""The phase ``autoencoder`` with given weights that stay, with a perceptual loss and with an adversary, as runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.errors import UserError
from core.nn import GridAutoencoderConfig
from core.train import main

ROOT = Path(__file__).parents[3]
LOCAL = """
[plugins.modules]
stock = "stock_toy"
[datasets.stock_toys]
adapter = "stock_toys"
root = "{root}"
"""
WEIGHTS = "autoencoder/stock.autoencoder/weights.safetensors"
SHAPE = {"channels": 1, "space": (8, 8), "latent_channels": 2, "downsample": 2, "norm_groups": 4, "num_blocks": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("choices")
    shutil.copy(ROOT / "registry.toml", path)
    (path / "registry.local.toml").write_text(LOCAL.format(root=path / "data"))
    return path


@pytest.fixture
def train(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def run(name, *settings, phase="autoencoder"):
        sets = [word for setting in settings for word in ("--set", setting)]
        arguments = ["--flow", "toy_vector-stock_grid", "--data", "stock_toys", "--phase", phase, "--steps", "4"]
        main([*arguments, "--registry", "registry.toml", "--run", name, "--set", "training.log_every=1", *sets])
        return folder / name

    return run


def terms(run, word):
    """The values of a term in the steps that have it."""
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row[word] for row in rows if row.get("phase") == "autoencoder stock.autoencoder" and word in row]


@pytest.fixture(scope="module")
def given(folder):
    """A diffusers folder."""
    torch.manual_seed(1)
    GridAutoencoderConfig(**SHAPE, widths=(4, 8)).build().network.save_pretrained(folder / "given" / "vae")
    return folder / "given"


def test_given_weights_stay_and_their_scale_is_measured(train, given):
    run = train("frozen", "autoencoder.train=false", f"stock_grid.autoencoder.init_from={given}")
    stored, first = load_file(run / WEIGHTS), load_file(given / "vae/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(stored[f"network.{name}"], value) for name, value in first.items())
    latents = json.loads((run / "autoencoder/stock.autoencoder/about.json").read_text())["latents"]["stock_grid"]
    assert len(latents["scale"]) == 2
    assert not terms(run, "reconstruction")
    progress = json.loads((run / "progress.json").read_text())["stages"]
    assert {"autoencoder stock.autoencoder", "autoencoder toy_vector.autoencoder"} <= progress.keys()
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert "autoencoder toy_vector.autoencoder" in {row.get("phase") for row in rows}, "others train"


def test_without_given_weights_nothing_can_stay(train):
    with pytest.raises(
        UserError, match=r"'stock\.autoencoder' has no given weights .* stock_grid\.autoencoder\.init_from"
    ):
        train("refused", "autoencoder.train=false")


def test_an_adversary_joins_at_its_step(train):
    settings = ("autoencoder.adversarial_weight=0.1", "autoencoder.adversary_channels=8")
    run = train("adversary", *settings, "autoencoder.adversary_layers=1", "autoencoder.adversarial_start=2")
    assert len(terms(run, "reconstruction")) == 4
    assert len(terms(run, "adversary")) == len(terms(run, "adversarial")) == 2
    assert not [name for name in load_file(run / WEIGHTS) if "adversary" in name]


def test_the_encoders_of_an_earlier_run_see_features(train):
    with pytest.raises(UserError, match=r"no network found there"):
        train("no_network", "autoencoder.perceptual_weight=1", "autoencoder.perceptual_from=data")
    earlier = train("aligned", phase="align")
    run = train("perceptual", "autoencoder.perceptual_weight=0.5", f"autoencoder.perceptual_from={earlier}")
    seen = terms(run, "perceptual")
    assert len(seen) == 4
    assert all(0 < value < 2 for value in seen)
    with pytest.raises(UserError, match=r"has aligned no prompt encoder 'stock_grid\.prompt'"):
        train("none", "autoencoder.perceptual_weight=0.5", f"autoencoder.perceptual_from={run}")
