"""A run folder of somebody else is data: whatever stands in it, nothing of it is imported or run."""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest

import core.cli.command
from core.config.installation import load_installation
from core.errors import UserError
from core.generate.__main__ import main
from core.generate.bundle import open_bundle

SHIPPED = Path(__file__).parents[2] / "registry.toml"
MARK = "the stranger ran"
CODE = f"import pathlib; pathlib.Path(__file__).with_name('ran').write_text({MARK!r})\n"
GENERATE = ("--run", "run", "--out", "out", "--num", "1", "--steps", "1")
WEIGHTS = "diffuse/toy_grid.denoiser/weights.safetensors"


class Runs:
    """What unpickling would run."""

    def __reduce__(self):
        return os.system, ("touch unpickled",)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run, made once."""
    import subprocess

    folder = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-m", "core.train", "--flow", "toy_vector-toy_grid", "--data", "toy", "--steps", "2"]
    command += ["--run", "run", "--processes", "1", "--set", 'training.measure.only=["reconstruction"]']
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert made.returncode == 0, made.stderr
    return folder / "run"


@pytest.fixture
def shared(finished, tmp_path):
    """A copy beside code of a stranger, in the folder in which the command runs."""
    shutil.copytree(finished, tmp_path / "run")
    for name in ("evil", "run/evil", "run/toy_grid", "evil/inner"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "__init__.py").write_text(CODE)
        (tmp_path / name / "tokenizer.json").write_text("{}")
    for name in ("evil_module.py", "run/sitecustomize.py", "run/conftest.py", "run/__init__.py", "run/core.py"):
        (tmp_path / name).write_text(CODE)
    (tmp_path / "run/evil.pth").write_text("import evil_module\n")
    return tmp_path


def in_config(text):
    def change(folder):
        path = folder / "run/config.toml"
        path.write_text(path.read_text() + text)

    return change


def replaced(old, new, name="config.toml"):
    def change(folder):
        path = folder / "run" / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return change


def in_progress(**changes):
    def change(folder):
        path = folder / "run/progress.json"
        progress = json.loads(path.read_text())
        title = next(title for title in progress["stages"] if "toy_grid.denoiser" in title)
        progress["stages"][title] |= changes
        path.write_text(json.dumps(progress))

    return change


def pickled(name):
    def change(folder):
        (folder / "run" / name).write_bytes(pickle.dumps(Runs()))

    return change


def linked(name):
    def change(folder):
        target = folder / "elsewhere"
        target.mkdir()
        (target / "weights.safetensors").write_bytes(pickle.dumps(Runs()))
        shutil.rmtree(folder / "run" / name)
        (folder / "run" / name).symlink_to(target)

    return change


def distribution(point):
    """A distribution that lies in the current folder, with an entry point for plugins."""

    def change(folder):
        info = folder / "evil-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[medweave.plugins]\n{point}\n")

    return change


def registry(text):
    def change(folder):
        (folder / "registry.toml").write_text(SHIPPED.read_text() + text)

    return change


VARIANTS = {
    "nothing changed": lambda folder: None,
    "tokenizer in a package": in_config('\n[parts.text.preprocess]\npath = "evil:tokenizer.json"\n'),
    "tokenizer in an inner package": in_config('\n[parts.text.preprocess]\npath = "evil.inner:tokenizer.json"\n'),
    "tokenizer in the run": in_config('\n[parts.text.preprocess]\npath = "run.evil:tokenizer.json"\n'),
    "tokenizer by a relative import": in_config('\n[parts.text.preprocess]\npath = "..evil:tokenizer.json"\n'),
    "tokenizer of a prompt": in_config('\n[parts.text.prompt.tokenizer]\npath = "evil:tokenizer.json"\n'),
    "a target": in_config('\n[parts.toy_grid.denoiser]\n_target_ = "evil.Net"\n'),
    "a class": in_config('\n[parts.toy_grid.denoiser]\nclass = "evil_module:Net"\n'),
    "a part by name": in_config('\n[parts.toy_grid]\nautoencoder = "evil_module:Net"\n'),
    "given weights, pickled": in_config('\n[parts.toy_grid.autoencoder]\ninit_from = "run/weights.pt"\n'),
    "given encoder": in_config('\n[parts.toy_grid.prompt]\nencoder_from = "evil"\n'),
    "plugins": in_config("\n[plugins.modules]\nevil = 'evil_module'\n"),
    "recipe": replaced('recipe = "medweave"', 'recipe = "evil_module:recipe"'),
    "preset": replaced('preset = "tiny"', 'preset = "evil_module"'),
    "attention": replaced('attention = "auto"', 'attention = "evil_module"'),
    "flow": replaced("toy_vector-toy_grid", "toy_vector-evil_module"),
    "data": replaced('"toy"', '"evil_module"'),
    "device": replaced('device = "auto"', 'device = "evil_module"'),
    "solver": replaced('solver = "', 'solver = "evil_module.'),
    "phase of a stage": in_progress(phase="../evil"),
    "weights of a stage": in_progress(weights=["../../evil"]),
    "weight set by a module": in_progress(weights=["evil_module.denoiser"]),
    "pickled weights": pickled(WEIGHTS),
    "pickled description": pickled("diffuse/toy_grid.denoiser/about.json"),
    "pickled progress": pickled("progress.json"),
    "pickled configuration": pickled("config.toml"),
    "pickled versions": pickled("versions.json"),
    "linked weights": linked("diffuse/toy_grid.denoiser"),
    "yaml tags": lambda folder: (folder / "run/about.yaml").write_text("!!python/object/apply:os.system ['touch ran']"),
    "entry point to a package": distribution("evil = evil"),
    "entry point to a module": distribution("evil = evil_module"),
    "entry point of the name of ours": distribution("toy = evil_module"),
    "registry with modules": registry("\n[plugins.modules]\nevil = 'evil_module'\n"),
    "registry with an adapter": registry("\n[datasets.evil]\nadapter = 'evil_module'\nroot = 'x'\n"),
    "registry that enables": registry("\n[plugins.modules]\ntext2 = 'evil'\n"),
}


READ_BY_TEXT = [name for name in VARIANTS if name.startswith("tokenizer") and name != "tokenizer of a prompt"]


@pytest.fixture
def generated(shared, monkeypatch, capsys):
    """Generates from the shared run as ``python -m`` does, the current folder first on the path: exit code and errors.

    In this process: starting another one takes longer than all that is tested.
    """

    def call():
        monkeypatch.chdir(shared)
        monkeypatch.syspath_prepend(shared)
        with pytest.raises(SystemExit) as ended:
            core.cli.command.run(main, GENERATE)
        return ended.value.code, capsys.readouterr().err

    yield call
    assert not [name for name in sys.modules if name.partition(".")[0] in ("evil", "evil_module", "run")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_of_it_runs(shared, generated, variant):
    VARIANTS[variant](shared)
    code, errors = generated()
    if variant in READ_BY_TEXT:  # the run has no text, whose part would read it
        text = open_bundle(Path("run"), load_installation().catalog.modalities).run.parts("text")
        with pytest.raises(UserError, match="tokenizer"):
            text.preprocess.build()
    assert not [path for path in shared.rglob("*") if path.name in ("ran", "unpickled")], errors
    assert "Traceback" not in errors
    assert (shared / "out/0000/toy_grid.toy").is_file() == (code == 0)
    if variant == "nothing changed":
        assert code == 0, errors
    elif code:
        assert code == 2, errors
        assert len([line for line in errors.splitlines() if line.startswith("error: ")]) == 1
        assert not (shared / "out").exists()
