"""The built wheel is whole: both packages, the launcher, the registry, the entry points, the licence."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    result = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("medweave-*.whl")
    return path


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for expected in ("core/api.py", "plugins/ct/modality.py", "medweave/__init__.py", "medweave/registry.toml"):
        assert expected in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"core", "plugins", "medweave"}
    weights = [name for name in names if name.endswith((".pt", ".npz", ".safetensors"))]
    assert not [name for name in weights if not name.startswith("plugins/phantom/models/phantom/")]
    assert not [name for name in names if "__pycache__" in name]
    assert sum(zipfile.ZipFile(wheel).getinfo(name).file_size for name in names if "/models/" in name) < 20e6
    assert {"core/studio/page/index.html", "core/studio/page/viewer.js"} <= set(names)


def test_it_runs_where_there_is_no_checkout(wheel, pip_install, python, tmp_path):
    site = pip_install(wheel, tmp_path / "site")
    code = "import core; print(core.__file__)"
    assert str(site) in python(site, "-c", code, cwd=tmp_path).stdout
    result = python(site, "-m", "core.check", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert str(site / "medweave/registry.toml") in result.stdout
    assert "xray_frontal" in result.stdout
    launcher = python(
        site, "-c", "import sys, medweave; sys.argv = ['medweave', 'check']; medweave.main()", cwd=tmp_path
    )
    assert launcher.returncode == 0, launcher.stderr
    assert "xray_frontal" in launcher.stdout
