"""The third-party example adds a modality by being installed, and passes every contract check."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/ultrasound"


@pytest.fixture(scope="module")
def site(pip_install, tmp_path_factory):
    return pip_install(EXAMPLE, tmp_path_factory.mktemp("site"))


def test_without_it_there_is_no_ultrasound(python, tmp_path):
    result = python("", "-m", "core.check", "ultrasound", cwd=tmp_path)
    assert result.returncode == 2
    assert "no modality or plugin 'ultrasound'" in result.stderr


def test_it_is_listed_with_its_distribution(python, site, tmp_path):
    result = python(site, "-m", "core.check", cwd=tmp_path)
    assert re.search(r"^  ultrasound +medweave-ultrasound 0\.1\.0$", result.stdout, re.M), result.stdout + result.stderr
    assert re.search(r"^  busi +ultrasound", result.stdout, re.M)


def test_it_keeps_every_check(python, site, tmp_path):
    result = python(site, "-m", "core.check", "ultrasound", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    passed, failed, skipped = map(int, re.findall(r"(\d+) (?:passed|failed|skipped)", result.stdout)[-3:])
    assert (failed, passed > 40, skipped < 6) == (0, True, True), result.stdout


def test_its_own_tests_pass(python, site, tmp_path):
    result = python(
        site, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "tests/test_parts.py"), cwd=tmp_path
    )
    assert result.returncode == 0, result.stdout


def test_a_flow_with_it_is_planned(python, site, tmp_path):
    result = python(site, "-m", "core.train", "--flow", "text-ultrasound", "--plan", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1  text-ultrasound" in result.stdout


def test_it_is_small():
    files = list((EXAMPLE / "medweave_ultrasound").glob("*.py"))
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 180


def test_it_reads_real_busi_images_where_they_are(python, site, tmp_path, real_data):
    root = real_data("busi_ultrasound")
    code = f"""
import core
from pathlib import Path
from core.contract.discovery import discover
catalog = discover()
parts = catalog.modalities["ultrasound"].parts("tiny")
records = list(catalog.datasets["busi"].scan(Path({str(root)!r})))
reader, preprocess = parts.reader.build(), parts.preprocess.build()
samples = [preprocess.apply(reader.read(record.files["ultrasound"][0])) for record in records[:20]]
print(len(records), {{sample.data.shape for sample in samples}})
"""
    result = python(site, "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("{(1, 64, 64)}")
