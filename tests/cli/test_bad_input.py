"""Every wrong input is one line (what was found, what is allowed, what to do), exit code 2, and nothing is written."""

import os
import sys
from pathlib import Path

import pytest

import core

PLUGIN = """
from core.api import DataSpec, Modality, Parts, hookimpl
@hookimpl
def register_modalities():
    return [Modality(name="sono", title="S", presets={{"tiny": Parts(data=DataSpec(kind="vector"))}}, contract={contract})]
"""


@pytest.fixture
def install(tmp_path):
    """Puts a plugin distribution on PYTHONPATH; returns the environment to run with."""
    site = tmp_path / "site"

    def put(module, source, *, plugin="sono"):
        info = site / f"{module}-3.1.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 3.1\n")
        (info / "entry_points.txt").write_text(f"[medweave.plugins]\n{plugin} = {module}\n")
        return {"PYTHONPATH": str(site)}

    return put


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--flow", "text-xray,ct-mir"], "no modality 'mir' (installed: ct, "),
        (["--flow", "text-xray,ct-mir"], "did you mean 'mri'?"),
        (["--flow", "text_ct"], "text_ct"),
        (["--flow", ""], "flow"),
        (["--flow", "text-xray,ct-mri"], "ct-mri"),
        (["--flow", "text-text"], "text"),
        (["--flow", "text-ct,ct-text"], "ct-text"),
        (["--flow", "text-ct", "--preset", "tinny"], "no preset 'tinny'"),
        (["--flow", "text-ct", "--preset", "tinny"], "did you mean 'tiny'?"),
        (
            ["--flow", "toy_grid-toy_vector", "--preset", "paper"],
            "no preset of modality 'toy_grid' 'paper' (known: tiny)",
        ),
        (["--recipe", "medm3g"], "did you mean 'medm2g'?"),
        (["--flow", "text-ct", "--data", "fantom"], "did you mean 'phantom'?"),
        (["--flow", "text-ct", "--set", "sampler.stebs=3"], "did you mean 'steps'?"),
        (["--flow", "text-ct", "--set", "ct.denoiser.num_block=3"], "did you mean 'num_blocks'?"),
        (["--flow", "text-ct", "--set", "sampler.steps=many"], "sampler.steps"),
        (["--flow", "text-ct", "--seed", "one"], "--seed"),
        (["--flo", "text-ct"], "unknown argument '--flo'; did you mean '--flow'?"),
        (["--registry", "nowhere.toml"], "nowhere.toml: no such file"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_wrong_arguments(refused, tmp_path, arguments, expected):
    assert expected in refused("core.train", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("schema = 1\n[plugin]\nenabled = []\n", "did you mean 'plugins'?"),
        ("schema = 2\n", "schema must be 1"),
        ("schema = = 1\n", "registry.toml"),
        ("schema = 1\n[recipes.mine.sampler]\nsolver = 'ddpm'\n", "recipes.mine.sampler.solver"),
    ],
)
def test_wrong_registry(refused, tmp_path, text, expected):
    (tmp_path / "registry.toml").write_text(text)
    assert expected in refused("core.check")


def test_unset_environment_variable(refused):
    line = refused("core.train", "--flow", "toy_vector-toy_grid", "--data", "openi_cxr", env={"MEDWEAVE_DATA": ""})
    assert "openi" in line


def test_plugin_that_raises_on_import_stops_a_flow_that_needs_it(refused, install):
    line = refused("core.train", "--flow", "text-sono", env=install("sonoplug", "1 / 0"))
    assert "no modality 'sono'" in line
    assert "plugin 'sono' (sonoplug 3.1) cannot be used: ZeroDivisionError: division by zero" in line


def test_plugin_that_raises_on_import_is_one_warning_for_others(run, install):
    result = run(
        "core.train", "--flow", "toy_vector-toy_grid", "--data", "toy", "--plan", env=install("sonoplug", "1 / 0")
    )
    assert result.returncode == 0
    assert [line for line in result.stderr.splitlines() if "sonoplug" in line] == result.stderr.strip().splitlines()
    assert result.stderr.startswith("warning: plugin 'sono' (sonoplug 3.1) cannot be used")


def test_two_plugins_with_one_name(refused, install):
    install("first_sono", PLUGIN.format(contract=1))
    environment = install("second_sono", PLUGIN.format(contract=1))
    line = refused("core.check", env=environment)
    assert "two plugins are called 'sono': first_sono 3.1 and second_sono 3.1; uninstall one" in line


def test_plugin_of_another_contract(refused, install):
    line = refused("core.train", "--flow", "text-sono", env=install("sonoplug", PLUGIN.format(contract=7)))
    assert "contract 7, this MedWeave has contract 1" in line


def test_missing_package_of_a_plugin(refused, install):
    line = refused("core.check", "sono", env=install("sonoplug", "import highdicom_of_tomorrow"))
    assert (
        "needs the package 'highdicom_of_tomorrow', which is not installed; pip install highdicom_of_tomorrow" in line
    )


def test_unknown_name_to_check(refused):
    assert "did you mean 'ct'?" in refused("core.check", "ctt")
    assert "no preset of modality 'ct' 'huge'" in refused("core.check", "ct", "--preset", "huge")


class TestForeignCore:
    """Another package named `core` in the current folder."""

    @pytest.fixture
    def foreign(self, tmp_path):
        folder = tmp_path / "project"
        (folder / "core").mkdir(parents=True)
        (folder / "core" / "__init__.py").write_text("raise SystemExit('the stranger ran')\n")
        return folder

    @pytest.fixture
    def medweave(self):
        return str(Path(sys.executable).with_name("medweave"))

    def test_the_console_script_is_not_disturbed_by_it(self, run, foreign, medweave):
        result = run(medweave, "check", cwd=foreign)
        assert result.returncode == 0, result.stderr
        assert "toy_grid" in result.stdout

    def test_in_front_on_the_path_it_is_named_and_left_alone(self, run, foreign, medweave):
        result = run(medweave, "check", cwd=foreign, env={"PYTHONPATH": str(foreign)})
        assert result.returncode == 0, result.stderr
        assert "toy_grid" in result.stdout
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith(f"warning: {foreign / 'core'}: another package 'core' is left alone")

    def test_a_package_named_plugins_switches_no_modality_off(self, run, tmp_path):
        (tmp_path / "plugins").mkdir()
        (tmp_path / "plugins" / "__init__.py").write_text("raise SystemExit('the stranger ran')\n")
        result = run(sys.executable, "-m", "core.check", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "xray_frontal" in result.stdout
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith(f"warning: {tmp_path / 'plugins'}: another package 'plugins' is left alone")

    def test_python_says_it_too(self, run, foreign):
        code = "import medweave; print(medweave.__version__, medweave.load.__module__)"
        result = run(sys.executable, "-c", code, cwd=foreign)
        assert result.stdout.split() == [core.__version__, "core.model.model"], result.stderr
        assert "another package 'core' is left alone" in result.stderr
        assert "the stranger ran" not in result.stderr

    def test_unknown_command(self, refused, medweave):
        assert (
            refused(medweave, "trian")
            == "no command 'trian' (known: train, generate, prepare, export, check); did you mean 'train'?"
        )


def test_a_run_folder_is_not_overwritten(run, refused, tmp_path):
    arguments = ["--flow", "toy_vector-toy_grid", "--data", "toy", "--steps", "2", "--phase", "align", "--run", "mine"]
    assert run("core.train", *arguments).returncode == 0
    before = (tmp_path / "mine" / "config.toml").read_bytes()
    line = refused("core.train", *arguments, "--seed", "5")
    assert "mine holds a run with another configuration: seed is 0 there, 5 here." in line
    assert (tmp_path / "mine" / "config.toml").read_bytes() == before


def test_output_into_a_closed_pipe_is_quiet(tmp_path):
    status = os.system(f"cd {tmp_path} && {sys.executable} -m core.check 2>err | true")
    assert status == 0
    assert "Traceback" not in (tmp_path / "err").read_text()
