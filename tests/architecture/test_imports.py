"""Who may import whom, and at what cost (rule 1 of docs/explanation/architecture.md)."""

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "transformers", "monai", "timm", "nibabel", "pydicom", "scipy", "torchmetrics")


def lint(folder: Path) -> subprocess.CompletedProcess:
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--config", str(folder / "pyproject.toml"), "--no-cache"]
    # python -P and PYTHONPATH: the tree under `folder` is examined, wherever the package is installed from
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder), "PATH": ""}
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    for name in ("core", "plugins"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_contracts_hold(copy):
    result = lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Contracts: " in result.stdout


def test_the_contracts_name_every_module_of_core():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = {contract["name"].partition(":")[0]: contract for contract in contracts}
    (plugins,) = [contract for name, contract in named.items() if name.startswith("plugins import only")]
    found = {
        f"core.{path.stem}"
        for path in (ROOT / "core").iterdir()
        if (path.suffix == ".py" and not path.stem.startswith("_")) or (path / "__init__.py").exists()
    }
    assert set(plugins["forbidden_modules"]) == found - {"core.api", "core.nn", "core.io", "core.testing"}
    layers = {f"core.{name}" for row in named["imports run down"]["layers"] for name in row.split(" | ")}
    assert layers == found - {"core.api"}


@pytest.mark.parametrize(
    ("file", "planted"),
    [
        ("core/flow/grammar.py", "import plugins.text"),
        ("core/preprocess/collate.py", "import core.encode.latents"),
        ("core/evaluate/test_set.py", "import core.training.session"),
        ("core/contract/discovery.py", "import core.config.run_config"),
        ("core/nn/schedule.py", "import core.engine.rng"),
        ("core/io/geometry.py", "import core.io.nifti"),
        ("plugins/phantom/geometry/grid.py", "import plugins.phantom.anatomy.body"),
        ("plugins/phantom/report/grammar.py", "import plugins.phantom.imaging.masks"),
        ("plugins/ct/modality.py", "import plugins.mri"),
        ("plugins/ct/modality.py", "import core.config.registry"),
        ("plugins/ct/modality.py", "import core.generate.bundle"),
        ("core/guide/train.py", "import core.api"),
    ],
)
def test_a_planted_import_breaks_a_contract(copy, file, planted):
    original = (copy / file).read_text()
    (copy / file).write_text(original + f"\n{planted}\n")
    try:
        result = lint(copy)
    finally:
        (copy / file).write_text(original)
    assert result.returncode != 0
    assert "BROKEN" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize(
    "module",
    [
        "core",
        "core.api",
        "core.nn",
        "core.train",
        "core.check",
        "core.config.registry",
        "core.flow.grammar",
        "core.contract.discovery",
        "core.contract.hookspecs",
    ],
)
def test_nothing_heavy_is_imported_early(module):
    code = f"import sys, {module}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_plugins_register_without_anything_heavy():
    code = f"import sys\nfrom core.contract.discovery import discover\ndiscover()\nprint([n for n in {HEAVY!r} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_every_package_says_that_it_is_one():
    """Without ``__init__.py`` a folder merges with any other of its name on the path."""
    folders = {path.parent for name in ("core", "plugins") for path in (ROOT / name).rglob("*.py")}
    assert not [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]


def foreign_imports(source: str, own: str) -> list[str]:
    """Modules of ours that a plugin may not import: all but the four public packages and its own."""
    allowed = ("core.api", "core.nn", "core.io", "core.testing", f"plugins.{own}")
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        ours = [name for name in names if name.partition(".")[0] in ("core", "plugins")]
        found += [name for name in ours if not any(name == base or name.startswith(f"{base}.") for base in allowed)]
    return found


def test_plugins_import_only_what_is_public():
    """Whatever plugin and whatever module of the core, also those that no list names."""
    plugins = [path for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(plugins) >= 4
    found = {
        str(path.relative_to(ROOT)): names
        for plugin in plugins
        for path in plugin.rglob("*.py")
        if (names := foreign_imports(path.read_text(encoding="utf-8"), plugin.name))
    }
    assert not found


@pytest.mark.parametrize(
    "planted",
    [
        "import core.config.overrides",
        "from core.flow.patient_pools import with_pools",
        "from plugins.mri import x",
        "import core",
    ],
)
def test_a_planted_private_import_is_found(planted):
    assert foreign_imports(f"def f():\n    {planted}\n", "ct")
