"""Any folder with a table: what becomes a study, and what is refused."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.api import UserError
from core.contract.discovery import discover
from core.contract.modality import Parts
from core.data.studies import Studies
from plugins.manifest.datasets import MANIFEST

ROOT = Path(__file__).parents[3]
COLUMNS = ["study_id", "patient_id", "modality", "file", "split", "report", "labels"]
ROWS = [
    ["a", "p1", "xray_frontal", "a1.png", "dev", "Clear lungs.", "normal"],
    ["a", "p1", "xray_lateral", "a2.png", "dev", "Clear lungs.", "normal"],
    ["b", "p2", "ct", "b1.png", "test", "A mass.", "mass|effusion"],
    ["b", "p2", "ct", "b2.png", "test", "The liver.", ""],
    ["b", "p2", "ct", "b3.png", "test", "The liver.", ""],
]


@pytest.fixture
def table(tmp_path):
    def write(rows=ROWS, columns=COLUMNS):
        with (tmp_path / "manifest.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        return tmp_path

    return write


def test_a_record_per_study_and_report(table):
    root = table()
    first, second, third = MANIFEST.scan(root)
    assert (first.patient, first.study, first.split) == ("p1", "a", "train")
    assert first.files == {"xray_frontal": (root / "a1.png",), "xray_lateral": (root / "a2.png",)}
    assert first.texts == {"text": "Clear lungs."}
    assert first.labels == {"normal": 1}
    assert (second.study, second.labels, second.split) == ("b", {"mass": 1, "effusion": 1}, "test")
    assert (third.study, third.patient) == ("b#2", "p2")
    assert third.files == {"ct": (root / "b2.png", root / "b3.png")}


@pytest.mark.parametrize(
    "file", ["../secret.png", "/etc/hostname", "deep/../../secret.png", "link.png", "linked/a.png"]
)
def test_files_out_of_the_folder_are_refused_unless_they_are_allowed(table, tmp_path_factory, file):
    root, outside = table([["a", "p", "ct", file, "", "", ""]]), tmp_path_factory.mktemp("outside")
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "linked").symlink_to(outside)
    with pytest.raises(UserError, match=r"leads out of the folder; put it there, or set options\.outside = true"):
        list(MANIFEST.scan(root))
    (record,) = MANIFEST.scan(root, outside=True)
    assert record.files["ct"] == (root / file,)


def test_a_link_within_the_folder_is_followed(table):
    root = table([["a", "p", "ct", "link.png", "", "", ""]])
    (root / "link.png").symlink_to(root / "a.png")
    assert len(list(MANIFEST.scan(root))) == 1


def test_the_table_of_the_page_on_dicom_is_one_study(tmp_path):
    """A CT and a radiograph with a report: an empty cell does not make another study of it."""
    page = (ROOT / "docs/how-to/read_dicom.md").read_text(encoding="utf-8")
    block = next(part for part in page.split("```") if part.startswith("\nstudy_id,"))
    (tmp_path / "manifest.csv").write_text(block.lstrip(), encoding="utf-8")
    (record,) = MANIFEST.scan(tmp_path)
    assert set(record.files) == {"xray_frontal", "ct"}
    assert record.texts == {"text": "No acute findings."}


@pytest.mark.parametrize("blank", ["", " "])
def test_a_row_without_a_report_has_that_of_its_study_where_there_is_one_only(table, blank):
    columns = ["study_id", "modality", "file", "report"]
    first, last = ["a", "ct", "1.png", blank], ["a", "mri", "2.png", "A mass. "]
    (record,) = MANIFEST.scan(table([first, last], columns))
    assert (set(record.files), record.texts) == ({"ct", "mri"}, {"text": "A mass."})
    third = ["a", "ct", "3.png", "The liver."]
    studies = list(MANIFEST.scan(table([first, last, third], columns)))
    assert [record.study for record in studies] == ["a", "a#2", "a#3"]
    assert [record.texts.get("text") for record in studies] == [None, "A mass.", "The liver."]


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        ([["a", "ct", "x.png"]], ["study", "modality", "file"], "lacks the columns study_id"),
        ([["a", "", "x.png"]], ["study_id", "modality", "file"], "line 2: modality is empty"),
        ([["a", "ct", "x.png", "training"]], ["study_id", "modality", "file", "split"], "split 'training' (known: dev"),
    ],
)
def test_an_invalid_table_names_file_and_line(table, rows, columns, expected):
    root = table(rows, columns)
    with pytest.raises(UserError) as refused:
        list(MANIFEST.scan(root))
    assert expected in str(refused.value)
    assert str(root / "manifest.csv") in str(refused.value)


def test_a_folder_without_a_table(tmp_path):
    with pytest.raises(UserError, match="no such file; write one row per file"):
        list(MANIFEST.scan(tmp_path))


def test_a_data_set_may_set_the_readers_of_its_files(table):
    """An exported CT picture is read only where the data set says what its grey levels stand for."""
    root = table([["b", "p2", "ct", "b1.png"]], ["study_id", "patient_id", "modality", "file"])
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(root / "b1.png")
    (record,) = MANIFEST.scan(root)
    parts: dict[str, Parts] = {"ct": discover().modalities["ct"].parts("tiny")}
    with pytest.raises(UserError, match=r"b1\.png"):
        Studies([record], [("ct",)], parts).sample("ct", 0)
    image = {
        "modality": "ct",
        "orientation": "PL",
        "units": "HU",
        "value_range": (-160, 240),
        "spacing_mm": (6.25,) * 2,
    }
    config = parts["ct"].reader
    settings = type(config).model_validate({**config.model_dump(), "image": image})
    (named,) = [type(record)(**{**vars(record), "dataset": "mine"})]
    read = Studies([named], [("ct",)], parts, {("mine", "ct"): settings}).sample("ct", 0)
    assert read.data.max() == pytest.approx(0.24)  # 240 HU in a window of -1000 to 1000


@pytest.fixture
def registry(tmp_path):
    shutil.copy(ROOT / "registry.toml", tmp_path)
    return tmp_path


def test_a_wrong_reader_setting_names_the_data_set(registry, monkeypatch):
    from core.config.registry import load_registry
    from core.config.run_config import Flags, resolve
    from core.data.records import readers_of
    from core.flow.run import start_run

    local = '[datasets.mine]\nadapter = "manifest"\nroot = "."\nreader.ct = { windw = 3 }\n'
    (registry / "registry.local.toml").write_text(local)
    monkeypatch.chdir(registry)
    found, catalog = load_registry(None), discover()
    run = start_run(resolve(found, catalog.modalities, Flags(flow="text-ct", data="mine")), catalog.modalities)
    with pytest.raises(UserError, match=r"datasets\.mine\.reader: .*windw"):
        readers_of([found.data_source("mine", catalog.datasets)], run)
