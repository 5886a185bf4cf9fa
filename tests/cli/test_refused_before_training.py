"""What is wrong with data, parts and places is one line before the first step, and no run folder is left."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import core.check
import core.cli.command
import core.train

SHIPPED = Path(__file__).parents[2] / "registry.toml"
FLOW = ["--flow", "toy_vector-toy_grid", "--data", "clinic", "--device", "cpu"]
SHORT = ["--steps", "2", "--phase", "autoencoder,align,diffuse"]

CLINIC = """
from dataclasses import replace
from core.api import DatasetAdapter, hookimpl
from core.testing.toy import TOY_GRID, TOY_VECTOR, scan, write_cohort

def make(root):
    {make}

def rows(root):
    {rows}

@hookimpl
def register_datasets():
    return [DatasetAdapter(name="clinic", title="C", modalities={modalities}, licence="-", citation="-",
                           scan=rows, make=make)]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder with a registry in which the data set `clinic` stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copy(SHIPPED, tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("mw_clinic")]:
        del sys.modules[name]


@pytest.fixture
def clinic(place):
    """Writes the plugin of the data set; ``root`` is that of the registry."""

    def write(
        rows="return scan(root)", make="write_cohort(root, 20)", modalities='("toy_vector", "toy_grid")', root="held"
    ):
        source = CLINIC.format(rows=rows, make=make, modalities=modalities)
        (place / "mw_clinic.py").write_text(source)
        (place / "registry.local.toml").write_text(
            "[plugins.modules]\nclinic = 'mw_clinic'\n"
            f"[datasets.clinic]\nadapter = 'clinic'\nroot = {json.dumps(root)}\n"
        )

    return write


@pytest.fixture
def call(place, capsys):
    """Runs a command in this process: exit code, output and error lines."""

    def run(*arguments, command=core.train):
        with pytest.raises(SystemExit) as ended:
            core.cli.command.run(command.main, [*arguments, "--registry", "registry.toml"])
        told = capsys.readouterr()
        return ended.value.code, told.out, told.err.strip().splitlines()

    return run


@pytest.fixture
def refused(call, place):
    """Training that must be refused: the one line. Nothing is left but what was there, and data that were made."""

    def run(*arguments):
        code, out, lines = call(*arguments)
        assert code == 2, lines
        (line,) = [line for line in lines if not line.startswith("warning: ")]
        assert line.startswith("error: ")
        assert out == ""
        assert not (place / "runs").exists()
        return line.removeprefix("error: ")

    return run


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        ({"rows": "raise RuntimeError('no\\nmanifest')"}, "cannot scan held: RuntimeError: no manifest"),
        ({"rows": "return None"}, "cannot scan held: TypeError"),
        ({"rows": "return [3]"}, "cannot scan held: scan(root) gave a int; it gives a Record per study"),
        (
            {"rows": "return [replace(record, split='val') for record in scan(root)]"},
            "has the split 'val' (known: test, train, validation)",
        ),
        (
            {"rows": "return [replace(record, files={'toy_grid': root}) for record in scan(root)]"},
            "the files of 'toy_grid' are a PosixPath, not a tuple",
        ),
        ({"make": "1 / 0"}, "cannot make held: ZeroDivisionError: division by zero"),
        ({"rows": "return []"}, "no study to train on holds toy_vector"),
        (
            {"rows": "return [replace(record, split='test') for record in scan(root)]"},
            "no study to train on holds toy_vector",
        ),
        ({"root": "~nobody_of_that_name"}, "root '~nobody_of_that_name' is no folder's name"),
        ({"root": " "}, "root ' ' is no folder's name"),
    ],
)
def test_a_data_set_that_misbehaves_is_named(clinic, refused, adapter, expected):
    clinic(**adapter)
    line = refused(*FLOW, *SHORT)
    assert expected in line
    assert "clinic" in line or "no study" in line


def test_halves_that_never_meet(clinic, refused):
    one = "{name: record.files[name]} if name in record.files else {}"
    clinic(rows=f"return [replace(record, files={one.replace('name', 'n')}) for i, record in enumerate(scan(root))"
                " for n in [('toy_vector', 'toy_grid')[i % 2]]]")  # fmt: skip
    assert "no study to train on holds toy_vector and toy_grid" in refused(*FLOW, *SHORT)
    line = refused(*FLOW, "--steps", "2", "--phase", "autoencoder,diffuse")
    assert "no study to train on holds toy_vector and one of its prompts (toy_grid)" in line


def test_a_data_set_without_the_modalities_is_refused_before_it_is_made(clinic, refused, place):
    clinic(make="(root.parent / 'made').touch()", modalities='("ct",)')
    line = refused(*FLOW, *SHORT)
    assert (
        "data set 'clinic' holds none of the modalities of the flow (it holds ct; the flow has toy_vector, toy_" in line
    )
    assert not (place / "made").exists()


def test_the_plan_says_so_too(clinic, call):
    clinic(modalities='("ct",)')
    code, out, _ = call(*FLOW, "--plan")
    assert code == 0
    assert "no data: data set 'clinic' holds none of the modalities of the flow" in " ".join(out.split())


def test_studies_without_a_partner_are_left_out_of_the_pair(clinic, call, place):
    """Every second study has no picture; there is no validation split either."""
    clinic(
        rows="return [replace(record, split='train', files=record.files if index % 2 else"
        " {'toy_vector': record.files['toy_vector']}) for index, record in enumerate(scan(root))]"
    )
    code, out, lines = call(*FLOW, *SHORT)
    assert code == 0, lines
    assert "no validation study holds toy_vector, toy_grid: nothing held out is measured there" in "\n".join(lines)
    assert "held out" not in out
    assert "training loss" in out


def test_make_is_called_every_time(clinic, call, place):
    clinic(make="write_cohort(root, 20); (root / 'calls').open('a').write('x')")
    for name in ("one", "two"):
        code, _, lines = call(*FLOW, "--steps", "1", "--phase", "align", "--run", name)
        assert code == 0, lines
    assert (place / "held/calls").read_text() == "xx"


def test_a_toy_cohort_that_was_stopped_half_way_is_finished(call, place):
    toy = ["--flow", "toy_vector-toy_grid", "--data", "toy", "--steps", "1", "--phase", "align", "--device", "cpu"]
    (place / "data/toy").mkdir(parents=True)
    (place / "data/toy/0_grid.toy").write_bytes(b"half")
    assert call(*toy)[0] == 0
    before = (place / "data/toy/0_grid.toy").stat().st_mtime_ns
    assert call(*toy)[0] == 0
    assert (place / "data/toy/0_grid.toy").stat().st_mtime_ns == before, "a finished cohort is left as it is"


@pytest.mark.parametrize("content", ["[]", "{", '{"num": "many"}', '{"num": -1}', "null"])
def test_a_damaged_toy_cohort(refused, place, content):
    (place / "data/toy").mkdir(parents=True)
    (place / "data/toy/cohort.json").write_text(content)
    assert "data set 'toy': cannot" in refused("--flow", "toy_vector-toy_grid", "--data", "toy", "--device", "cpu")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--run", "registry.toml"], "--run registry.toml: registry.toml is not a folder"),
        (["--run", "registry.toml/deeper"], "registry.toml is not a folder; name a new folder"),
        (["--run", ""], "argument --run: the path is empty"),
        (["--config", ""], "argument --config: the path is empty"),
        (["--data", ""], "--data names no data set"),
        (["--device", "meta"], "device 'meta' is not supported"),
        (["--device", "meta", "--plan"], "device 'meta' is not supported"),
        (["--phase", "guide"], "phase 'guide' continues from autoencoder and diffuse"),
        (["--phase", "guide", "--plan"], "phase 'guide' continues from autoencoder and diffuse"),
        (
            ["--set", "diffuse.objective=epsilon", "--set", "diffuse.schedule=linear"],
            "diffuse.schedule = 'linear' ends in pure noise (zero terminal SNR)",
        ),
        (["--set", "toy_grid.denoiser.prompt_width=8"], "its denoiser takes prompts of width 8"),
        (["--set", "toy_grid.autoencoder.latent_channels=5"], "its autoencoder makes (5, 4, 4)"),
    ],
)
def test_settings_and_folders(clinic, refused, place, arguments, expected):
    clinic()
    assert expected in refused(*FLOW, *arguments)
    assert {path.name for path in place.iterdir()} <= {
        "registry.toml", "registry.local.toml", "mw_clinic.py", "__pycache__"
    }, "refused before data are made"  # fmt: skip


def test_cuda_on_a_machine_without(clinic, refused, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    clinic()
    assert "device 'cuda': " in refused("--device", "cuda", *FLOW[:-2])


def test_a_data_set_must_be_named(place, refused):
    recipe = (place / "registry.toml").read_text().replace('names = ["phantom"]', "names = []")
    (place / "registry.toml").write_text(recipe)
    assert "no data set is named; give some with --data (known: " in refused(*FLOW[:2], "--device", "cpu")


def test_a_plugin_that_is_off_is_said_to_be_off(place, refused):
    (place / "registry.local.toml").write_text("[plugins]\nenabled = ['toy', 'text']\n")
    line = refused("--flow", "text-ct")
    assert "no modality 'ct'" in line
    assert "plugin 'ct' is turned off: add it to [plugins] enabled" in line
    line = refused("--flow", "text-xray")
    assert "alias 'xray' means modality 'xray_frontal'" in line
    assert "plugin 'xray' is turned off" in line
    line = refused(*FLOW[:2], "--data", "phantom", "--device", "cpu")
    assert "no adapter 'phantom'" in line
    assert "only the plugins text, toy are turned on" in line


def test_pairs_of_unknown_modalities(place, refused):
    (place / "registry.local.toml").write_text("[pairs.'text-ctt']\nweight = 2\n")
    assert "pairs.text-ctt: no modality 'ctt'" in refused("--flow", "text-ct")


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        ({"modalities": "(1, 2)"}, "data set 'clinic' needs a tuple of modality names, found (1, 2)"),
        ({"modalities": "'toy_grid'"}, "data set 'clinic' needs a tuple of modality names, found 'toy_grid'"),
    ],
)
def test_the_list_of_what_is_installed_survives_a_wrong_adapter(clinic, call, adapter, expected):
    clinic(**adapter)
    code, out, lines = call(command=core.check)
    assert code == 0, lines
    assert expected in out
