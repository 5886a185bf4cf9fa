"""Legal runs that are easily forgotten: they end with a table, and say what they left out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from core.api import UserError
from core.config.registry import DatasetEntry, DataSource
from core.contract.modality import DatasetAdapter
from core.data.records import records_of
from core.testing.toy import scan, write_cohort
from core.train import main
from core.types import Record

ROOT = Path(__file__).parents[3]
SHORT = ["--steps", "3", "--set", "training.measure.steps=2", "--set", "training.measure.samples=8"]
LOCAL = """
[plugins.modules]
third = "third_toy"
[datasets.three_toys]
adapter = "three_toys"
root = "{root}"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copy(ROOT / "registry.toml", tmp_path)
    (tmp_path / "registry.local.toml").write_text(LOCAL.format(root=tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return tmp_path


def test_without_align_nothing_is_prompted_and_the_table_is_there(folder, capsys):
    only = ["--set", "align.centre=toy_vector", "--phase", "autoencoder,diffuse"]
    main(
        [
            "--flow",
            "toy_vector-toy_grid",
            "--data",
            "three_toys",
            "--run",
            "run",
            "--registry",
            "registry.toml",
            *SHORT,
            *only,
        ]
    )
    assert "toy_grid: autoencoder, PSNR dB" in capsys.readouterr().out
    assert (folder / "run/report.html").is_file()


def test_a_pair_that_an_earlier_round_has_coupled_is_not_trained_again(folder):
    main(
        [
            "--registry",
            "registry.toml",
            "--flow",
            "toy_vector-toy_grid,toy_vector+toy_grid-toy_view",
            "--data",
            "three_toys",
            "--run",
            "run",
            *SHORT,
            "--recipe",
            "medm2g",
        ]
    )
    about = json.loads((folder / "run/guide/context.toy_view/about.json").read_text())
    assert about["pairs"] == [["toy_vector", "toy_view"], ["toy_grid", "toy_view"]]


@pytest.mark.parametrize(("num", "patients"), [(0, 0), (1, 1), (4, 1)])
def test_too_few_test_studies_stop_no_run(folder, monkeypatch, capsys, num, patients):
    """None, one, and four of one patient."""
    import core.data.records

    def few(source, run, *others):
        records = records_of(source, run)
        test = [record for record in records if record.split == "test"][:num]
        return [record for record in records if record.split == "train"] + [
            replace(record, patient="the only one") if patients == 1 else record for record in test
        ]

    monkeypatch.setattr("core.data.cohort.records_of", few)
    assert core.data.records.records_of is records_of
    main(
        ["--flow", "toy_vector-toy_grid", "--data", "three_toys", "--run", "run", "--registry", "registry.toml", *SHORT]
    )
    table = capsys.readouterr().out
    assert "\n  toy_grid: training loss" in table.partition("denoisers\n")[2]
    assert "nan" not in table


def test_a_patient_in_two_splits_is_refused(folder):
    def leaky(root):
        records = list(scan(root))
        for split in ("train", "test"):
            yield replace(next(record for record in records if record.split == split), patient="twice")

    write_cohort(folder / "data", 40)
    adapter = DatasetAdapter(
        name="leaky", title="", modalities=("toy_grid",), licence="", citation="", scan=leaky, make=None
    )
    source = DataSource("leaky", adapter, folder / "data", DatasetEntry(adapter="leaky", root="data"))
    with pytest.raises(UserError, match="patient 'twice' is in the splits"):
        records_of(source, None)


def test_a_record_of_two_texts_is_one_study():
    record = Record(patient="p", study="s", texts={"text": "Clear."})
    assert record.has("text")
    assert not record.has("ct")
