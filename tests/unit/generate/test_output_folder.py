"""The folder of generated studies: what is gone on with, what is cleared, and what is left alone."""

import json

import pytest

from core.errors import UserError
from core.generate.output_folder import Command, opened

FILES = {"a": "a.toy"}


def command(num=2, **settings):
    return Command(num, FILES, {"seed": 0, **settings})


def fill(folder, asked, overwrite=False, stop=None):
    with opened(folder, asked, overwrite=overwrite) as place:
        for index in range(asked.num if stop is None else stop):
            if not place.has(index):
                place.add(index, lambda beside: (beside / "a.toy").write_text(json.dumps(dict(asked.settings))))
        if stop is None:
            place.write_manifest()
            (folder / "contact_sheet.png").touch()
        return place.finished()


def studies(folder):
    return {path.parent.name: path.read_text() for path in folder.glob("*/a.toy")}


def test_the_same_command_goes_on_and_finishes(tmp_path):
    out = tmp_path / "deep" / "out"
    assert not fill(out, command(), stop=1)
    assert fill(out, command())
    assert sorted(studies(out)) == ["0000", "0001"]
    (out / "0001/a.toy").unlink()
    assert fill(out, command())


def test_a_folder_that_stays_empty_vanishes(tmp_path):
    with pytest.raises(RuntimeError), opened(tmp_path / "deep/out", command(), overwrite=False):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (command(seed=1), "seed: 0 there, 1 asked"),
        (command(3), "num: 2 there, 3 asked"),
        (command(sampling={"steps": "4"}), 'steps: null there, "4" asked'),
    ],
)
def test_another_command_is_refused(tmp_path, asked, expected):
    fill(tmp_path, command())
    with pytest.raises(UserError, match=expected):
        fill(tmp_path, asked)


def test_overwriting_removes_the_studies_of_the_old_command_alone(tmp_path):
    fill(tmp_path, command(4))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "0007").mkdir()
    fill(tmp_path, command(1, seed=1), overwrite=True)
    assert studies(tmp_path) == {"0000": '{"seed": 1}'}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "0007").is_dir()


@pytest.mark.parametrize("foreign", ["0001/scan.dcm", "manifest.csv", "0000/a.toy"])
def test_what_nobody_generated_is_never_overwritten(tmp_path, foreign):
    path = tmp_path / foreign
    path.parent.mkdir(exist_ok=True)
    path.write_text("a patient's")
    with pytest.raises(UserError, match=r"was not written by core\.generate"):
        fill(tmp_path, command(), overwrite=True)
    assert path.read_text() == "a patient's"


def series(beside):
    (beside / "scan").mkdir(parents=True)
    for number in (1, 2):
        (beside / f"scan/{number:04d}.dcm").write_text("slice")
    (beside / "scan.json").touch()


def test_a_series_is_a_folder_in_a_study(tmp_path):
    asked = Command(2, {"scan": "scan"}, {"seed": 0})
    for _ in range(2):
        with opened(tmp_path, asked, overwrite=False) as place:
            for index in (0, 1):
                if not place.has(index):
                    place.add(index, series)
            place.write_manifest()
    assert "0001,0001,scan,0001/scan,,,true" in (tmp_path / "manifest.csv").read_text()
    (tmp_path / "contact_sheet.png").touch()
    with opened(tmp_path, asked, overwrite=False) as place:
        assert place.finished()
        for path in (tmp_path / "0001/scan").iterdir():
            path.unlink()
        assert not place.has(1)
        place.add(1, series)
        assert place.has(1)


@pytest.mark.parametrize("note", ["0000/scan/notes.txt", "0000/scan/deeper/0001.dcm", "0000/scan2/0001.dcm"])
def test_a_note_in_a_series_stops_overwriting(tmp_path, note):
    asked = Command(1, {"scan": "scan"}, {"seed": 0})
    with opened(tmp_path, asked, overwrite=False) as place:
        place.add(0, series)
    (tmp_path / note).parent.mkdir(exist_ok=True)
    (tmp_path / note).write_text("mine")
    with pytest.raises(UserError, match="0000 was not written"), opened(tmp_path, asked, overwrite=True):
        pass
    assert (tmp_path / note).read_text() == "mine"


def test_a_series_is_overwritten_whole(tmp_path):
    asked = Command(1, {"scan": "scan"}, {"seed": 0})
    with opened(tmp_path, asked, overwrite=False) as place:
        place.add(0, series)
    (tmp_path / "0000/scan/0001.dcm").write_text("old")
    with opened(tmp_path, asked, overwrite=True) as place:
        place.add(0, series)
    assert (tmp_path / "0000/scan/0001.dcm").read_text() == "slice"


def test_a_note_in_an_old_study_stops_overwriting(tmp_path):
    fill(tmp_path, command(4))
    (tmp_path / "0003/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="0003 was not written"):
        fill(tmp_path, command(1), overwrite=True)
    assert len(studies(tmp_path)) == 4
