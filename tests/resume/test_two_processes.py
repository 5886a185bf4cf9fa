"""Two processes over gloo give the gradients of one process with the whole batch, in every phase."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("two_processes.py")
# One step that hardly moves the weights: what follows it is compared at the same place. Batches of 15 do not halve.
PHASES = ("autoencoder", "align", "diffuse", "guide")
ONE_STEP = [
    "--flow",
    "toy_vector-toy_grid",
    "--recipe",
    "medm2g",
    "--data",
    "toy",
    "--phase",
    ",".join(PHASES),
    "--steps",
    "1",
]
# In guide some studies have a clean partner or none, and not as many of them in both processes.
ONE_STEP += ["--set=guide.clean=0.4", "--set=guide.partner_drop=0.4"]
ONE_STEP += ["--set=training.measure.samples=8", "--set=training.measure.steps=4"]
ONE_STEP += [
    f"--set=training.{phase}.{setting}"
    for phase in PHASES
    for setting in ("learning_rate=1e-12", "batch=15", "clip=1e9")
]


def train(folder, name, *launcher):
    result = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), *ONE_STEP, "--run", name],
        cwd=folder, capture_output=True, text=True, timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


def gradients(folder, name):
    """Stage and parameter to gradient: after the first step, Adam's first moment is a tenth of it."""
    return {
        f"{path.parent.name} {key}": 10 * value
        for path in (folder / name / "checkpoints").glob("*/000000001.safetensors")
        for key, value in load_file(path).items()
        if key.endswith("/exp_avg")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    train(folder, "one")
    # "--", or torchrun takes our --run for the start of its --run-path.
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--"]
    (folder / "out.txt").write_text(train(folder, "two", *torchrun).stdout)
    return folder


def test_gradients_are_those_of_one_process(folder):
    one, two = gradients(folder, "one"), gradients(folder, "two")
    assert one.keys() == two.keys()
    assert {name.split("_")[0] for name in one} == set(PHASES)
    assert any("projector" in name for name in one)
    # What the environment contrast trains reads the rows of both processes (method E14).
    contrasted = [value for name, value in one.items() if "to_pooled" in name or "/contrast." in name]
    assert len(contrasted) == 5
    assert all(value.abs().max() > 1e-2 for value in contrasted)
    for name, expected in one.items():
        largest = float(expected.abs().max())
        assert float((two[name] - expected).abs().max()) <= 1e-5 * max(largest, 1e-3), name


def test_losses_are_those_of_one_process(folder):
    rows = [
        [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(rows[0]) == len(rows[1]) == 6
    for one, two in zip(*rows, strict=True):
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert two[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-6)), key


def test_only_the_first_process_talks(folder):
    assert (folder / "out.txt").read_text().count("→ toy_grid retrieval, R@5, held out") == 1
