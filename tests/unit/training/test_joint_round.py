"""A last joint round: denoisers learn with what is attached to them, and the run is used with what it left (F9)."""

import json

import pytest
import torch
from safetensors.torch import load_file

from core.config.installation import load_installation
from core.generate.__main__ import main as generate
from core.generate.bundle import open_bundle
from core.train import main as train

SHORT = ["--flow", "toy_vector-toy_grid", "--data", "toy", "--steps", "3", "--run", "run", "--set=guide.trains=all"]
SHORT += ["--set=phases.freeze=then_joint", "--set=guide.studies=whole", "--set=guide.generated_partners=0.5"]
SHORT += ["--set=guide.clean=0.3", "--set=guide.aligned=beside", "--set=diffuse.objective=v"]
SHORT += ["--set=diffuse.schedule=cosine", "--set=training.measure.samples=8"]
DENOISER = "toy_grid.denoiser"


@pytest.fixture(scope="module")
def run(work_folder):
    train(SHORT)
    return work_folder / "run"


def weights(folder):
    return load_file(folder / "weights.safetensors")


def test_denoisers_learn_in_the_round_and_in_the_joint_round(run):
    first, second, last = (weights(run / phase / DENOISER) for phase in ("diffuse", "guide", "joint"))
    assert first.keys() == second.keys() == last.keys(), "what is attached is saved as its own weight set"
    for before, after in ((first, second), (second, last)):
        assert any(not torch.equal(before[name], after[name]) for name in before)
    stages = json.loads((run / "progress.json").read_text())["stages"]
    assert "joint all flows" in stages
    assert DENOISER in stages["joint all flows"]["weights"]


def test_the_newest_weights_are_opened(run):
    bundle = open_bundle(run, load_installation(None).catalog.modalities)
    opened = bundle.part("toy_grid", "denoiser").state_dict()
    assert all(torch.equal(opened[name], value) for name, value in weights(run / "joint" / DENOISER).items())
    assert bundle.trained_pairs == (("toy_vector", "toy_grid"),)
    assert bundle.networks.about("toy_grid.prompt_assembly")["sources"] == ["toy_vector"]


def test_the_run_generates_and_resumes_as_finished(run, capsys):
    generate(["--run", str(run), "--out", str(run / "out"), "--num", "2", "--coupling", "trained"])
    assert len(list((run / "out").rglob("*toy_grid*"))) >= 2
    train(SHORT)
    assert "is finished already" in capsys.readouterr().out
