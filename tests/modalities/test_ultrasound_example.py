"""The third-party example works as it stands: its entry point, its own tests, and the real folder it scans."""

import importlib
import os
import sys
import tomllib
from pathlib import Path

import pytest

from core.testing import check_modality, law_names

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "ultrasound"
DATA = Path(os.environ.get("MEDWEAVE_DATA", "/work/shared/data")) / "busi_ultrasound"
NETWORKS = ("prompt", "autoencoder", "denoiser")  # equal to those of the built-in plugins, examined there


@pytest.fixture(scope="module")
def plugin():
    sys.path.insert(0, str(EXAMPLE))
    try:
        declared = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
        yield importlib.import_module(declared["medweave.plugins"]["ultrasound"])
    finally:
        sys.path.remove(str(EXAMPLE))


def test_hooks(plugin):
    (modality,) = plugin.register_modalities()
    (dataset,) = plugin.register_datasets()
    assert modality.name == "ultrasound"
    assert dataset.modalities == ("ultrasound",)


def test_laws(plugin):
    (modality,) = plugin.register_modalities()
    laws = [law for law in law_names() if law.partition(".")[0] not in NETWORKS]
    outcomes = check_modality(modality, only=laws)
    assert [outcome for outcome in outcomes if outcome.status == "failed"] == []


@pytest.mark.slow
def test_its_own_tests():
    import subprocess

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE)]
    path = os.pathsep.join([str(EXAMPLE.parents[2]), str(EXAMPLE)])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stdout[-2000:]


def test_own_parts(plugin, tmp_path):
    specification = importlib.util.spec_from_file_location("example_parts", EXAMPLE / "tests" / "test_parts.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.test_speckle_leaves_black_black()
    module.test_scan_reads_rows(tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real images (MEDWEAVE_DATA) is absent")
def test_real_folder(plugin):
    (modality,) = plugin.register_modalities()
    (dataset,) = plugin.register_datasets()
    records = list(dataset.scan(DATA))
    assert len(records) > 500
    assert {sum(record.labels.values()) for record in records} == {1}
    parts = modality.parts("tiny")
    for record in records[::200]:
        (path,) = record.files["ultrasound"]
        assert parts.preprocess.build().apply(parts.reader.build().read(path)).data.shape == (1, 64, 64)


def test_it_stays_small():
    code = [line for path in (EXAMPLE / "medweave_ultrasound").glob("*.py") for line in path.read_text().splitlines()]
    assert len(code) <= 200
