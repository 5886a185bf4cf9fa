"""The main job from nothing, as a user runs it."""

import json
import tomllib

import pytest

FLOW = ["--flow", "toy_vector-toy_grid", "--data", "toy"]
ENV = {"OMP_NUM_THREADS": "1"}  # tiny tensors: on a busy machine a second thread costs minutes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("job")


@pytest.fixture
def trained(run, folder):
    """The toy run at its own sizes, made once."""
    if not (folder / "runs").exists():
        result = run("core.train", *FLOW, cwd=folder, env=ENV)
        assert result.returncode == 0, result.stderr
        (folder / "out.txt").write_text(result.stdout)
        (folder / "err.txt").write_text(result.stderr)
    return folder


def rows(folder):
    return [json.loads(line) for line in (folder / "runs/medm2g-tiny/metrics.jsonl").read_text().splitlines()]


def test_it_learns(trained):
    losses = {}
    for row in rows(trained):
        losses.setdefault(row["phase"], []).append(row["loss"])
    assert set(losses) == {
        "autoencoder toy_vector.autoencoder",
        "autoencoder toy_grid.autoencoder",
        "align 1 toy_vector-toy_grid",
        "diffuse toy_vector.denoiser",
        "diffuse toy_grid.denoiser",
    }
    for phase, values in losses.items():
        assert values[-1] < 0.7 * values[0], f"{phase} did not learn: {values[0]} to {values[-1]}"


def test_held_out_pairs_find_each_other(trained):
    (line,) = [line for line in (trained / "out.txt").read_text().splitlines() if "finds" in line]
    recall, chance = float(line.split()[-3]), float(line.split()[-1])
    assert recall > 4 * chance, line


def test_what_is_left_out_is_said(trained):
    assert "warning: phase 'guide' is not in this version" in (trained / "err.txt").read_text()


def test_the_run_folder_is_complete(trained):
    run = trained / "runs/medm2g-tiny"
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    assert [name for name in names if not name.endswith((".safetensors", ".json", ".jsonl", ".toml"))] == []
    assert "autoencoder/toy_grid.autoencoder/weights.safetensors" in names
    about = json.loads((run / "autoencoder/toy_grid.autoencoder/about.json").read_text())
    assert len(about["latents"]["toy_grid"]["scale"]) == 2
    assert tomllib.loads((run / "config.toml").read_text())["recipe"] == "medm2g"


def test_the_configuration_repeats_the_run_bit_for_bit(trained, run):
    result = run(
        "core.train",
        "--config",
        "runs/medm2g-tiny/config.toml",
        "--run",
        "again",
        "--phase",
        "align",
        cwd=trained,
        env=ENV,
    )
    assert result.returncode == 0, result.stderr
    again = [json.loads(line) for line in (trained / "again/metrics.jsonl").read_text().splitlines()]
    assert again == [row for row in rows(trained) if row["phase"].startswith("align")]


def test_another_seed_is_another_run(trained, run):
    result = run(
        "core.train", *FLOW, "--seed", "1", "--phase", "align", "--steps", "3", "--run", "seeded", cwd=trained, env=ENV
    )
    assert result.returncode == 0, result.stderr
    first = json.loads((trained / "seeded/metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] != next(row for row in rows(trained) if row["phase"].startswith("align"))["loss"]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("medm2g", ["3 rounds", "1  text-xray", "2  text-ct", "3  ct-mri", "no data"]),
        ("medcodi_m", ["2 rounds", "1  xray_frontal-xray_lateral", "2  xray_frontal-text", "no data"]),
    ],
)
def test_plans(run, recipe, expected):
    result = run("core.train", "--recipe", recipe, "--plan")
    assert result.returncode == 0, result.stderr
    for phrase in expected:
        assert phrase in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
