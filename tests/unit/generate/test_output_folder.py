"""The folder of generated studies: what is resumed, what is cleared, and what is left alone."""

import json

import pytest

from core.errors import UserError
from core.generate.output.folder import Command, add_study, open_output
from core.generate.output.manifest import write_manifests
from core.generate.output.study_record import StudyRecord

FILES = {"a": "a.toy"}


def command(num=2, **settings):
    return Command(num, FILES, {"seed": 0, **settings})


def fill(folder, requested, overwrite=False, stop=None):
    def write(study):
        (study / "a.toy").write_text(json.dumps(dict(requested.settings)))
        record(study, study.name.removeprefix(".medweave-"))

    with open_output(folder, requested, overwrite=overwrite) as output:
        output.begin()
        for name in list(requested.studies())[:stop]:
            if not output.has(name):
                add_study(folder, name, write)
        if stop is None:
            for table in ("manifest.csv", "datalist.json", "metadata.jsonl"):
                (folder / table).touch()
            (folder / "contact_sheet.png").touch()
        return output.finished()


def record(study, name="", **fields):
    defaults = {"study_id": name, "patient_id": "p", "files": {}, "seed": 0, "index": 0}
    StudyRecord(**{**defaults, **fields}).write(study)


def studies(folder):
    return {path.parent.name: path.read_text() for path in folder.glob("*/a.toy")}


def test_the_same_command_resumes_and_finishes(tmp_path):
    out = tmp_path / "deep" / "out"
    assert not fill(out, command(), stop=1)
    assert fill(out, command())
    assert sorted(studies(out)) == ["0000", "0001"]
    (out / "0001/a.toy").unlink()
    assert fill(out, command())


@pytest.mark.parametrize("other", [command(), command(seed=1)])
def test_two_commands_never_write_one_folder_at_once(tmp_path, other):
    out = tmp_path / "out"
    with (
        open_output(out, command(), overwrite=False),
        pytest.raises(UserError, match="generate writes there; wait for it"),
    ):
        fill(out, other, overwrite=True)
    fill(out, other)
    assert sorted(studies(out)) == ["0000", "0001"], "it is free again"


def test_a_study_that_is_gone_is_named(tmp_path):
    fill(tmp_path, command(), stop=1)
    with open_output(tmp_path, command(), overwrite=False) as output:
        with pytest.raises(UserError, match="files of 0001 were removed while the others were generated"):
            output.require_studies(["0000", "0001"])


def test_a_folder_that_stays_empty_vanishes(tmp_path):
    with pytest.raises(RuntimeError), open_output(tmp_path / "deep/out", command(), overwrite=False):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (command(seed=1), "seed: 0 there, 1 requested"),
        (command(3), "num: 2 there, 3 requested"),
        (command(sampling={"steps": "4"}), 'steps: null there, "4" requested'),
    ],
)
def test_another_command_is_refused(tmp_path, requested, expected):
    fill(tmp_path, command())
    with pytest.raises(UserError, match=expected):
        fill(tmp_path, requested)


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


def series(folder):
    (folder / "scan").mkdir(parents=True)
    for number in (1, 2):
        (folder / f"scan/{number:04d}.dcm").write_text("slice")
    (folder / "scan.json").touch()
    record(folder, folder.name.removeprefix(".medweave-"), files={"scan": "scan"})


def test_a_series_is_a_folder_in_a_study(tmp_path):
    requested = Command(2, {"scan": "scan"}, {"seed": 0})
    for _ in range(2):
        with open_output(tmp_path, requested, overwrite=False) as output:
            output.begin()
            for name in ("0000", "0001"):
                if not output.has(name):
                    add_study(output.folder, name, series)
            write_manifests(tmp_path, [StudyRecord.read(tmp_path / name) for name in ("0000", "0001")])
    assert "0001,p,scan,0001/scan," in (tmp_path / "manifest.csv").read_text()
    (tmp_path / "contact_sheet.png").touch()
    with open_output(tmp_path, requested, overwrite=False) as output:
        assert output.finished()
        for path in (tmp_path / "0001/scan").iterdir():
            path.unlink()
        assert not output.has("0001")
        add_study(output.folder, "0001", series)
        assert output.has("0001")


@pytest.mark.parametrize("note", ["0000/scan/notes.txt", "0000/scan/deeper/0001.dcm", "0000/scan2/0001.dcm"])
def test_a_note_in_a_series_stops_overwriting(tmp_path, note):
    requested = Command(1, {"scan": "scan"}, {"seed": 0})
    with open_output(tmp_path, requested, overwrite=False) as output:
        output.begin()
        add_study(output.folder, "0000", series)
    (tmp_path / note).parent.mkdir(exist_ok=True)
    (tmp_path / note).write_text("mine")
    with pytest.raises(UserError, match="0000 was not written"), open_output(tmp_path, requested, overwrite=True):
        pass
    assert (tmp_path / note).read_text() == "mine"


def test_a_series_is_overwritten_whole(tmp_path):
    requested = Command(1, {"scan": "scan"}, {"seed": 0})
    with open_output(tmp_path, requested, overwrite=False) as output:
        output.begin()
        add_study(output.folder, "0000", series)
    (tmp_path / "0000/scan/0001.dcm").write_text("old")
    with open_output(tmp_path, requested, overwrite=True) as output:
        output.begin()
        add_study(output.folder, "0000", series)
    assert (tmp_path / "0000/scan/0001.dcm").read_text() == "slice"


def test_a_note_in_an_old_study_stops_overwriting(tmp_path):
    fill(tmp_path, command(4))
    (tmp_path / "0003/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="0003 was not written"):
        fill(tmp_path, command(1), overwrite=True)
    assert len(studies(tmp_path)) == 4


TABLE = Command(2, FILES, {"seed": 0}, {"a": "1", "b": "2"})


def test_a_table_may_grow_and_its_rows_may_not_change(tmp_path):
    fill(tmp_path, TABLE)
    grown = Command(3, FILES, {"seed": 0}, {"a": "1", "c": "3", "b": "2"})
    made = (tmp_path / "a/a.toy").stat().st_mtime_ns
    assert fill(tmp_path, grown)
    assert sorted(studies(tmp_path)) == ["a", "b", "c"]
    assert (tmp_path / "a/a.toy").stat().st_mtime_ns == made
    for rows in ({"a": "1", "c": "3"}, {"a": "9", "b": "2", "c": "3"}):
        with pytest.raises(UserError, match=r"rows that have changed or are gone from the table \([ab]\)"):
            fill(tmp_path, Command(len(rows), FILES, {"seed": 0}, rows))
    with pytest.raises(UserError, match="rows: true there, false requested"):
        fill(tmp_path, command())
