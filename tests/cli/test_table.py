"""``core.generate --table``: many requests by one process, resumed, in shards, and with rows that fail."""

import csv
import json
import shutil

import numpy as np
import pytest

from core.contract.discovery import discover
from core.errors import MedWeaveWarning, UserError
from core.generate import write as generate_write
from core.generate.__main__ import main

FLOW = ["--flow", "toy_vector-toy_grid", "--data", "toy"]
SHORT = ["--steps", "2", "--set", "training.measure.samples=8", "--set", "training.measure.steps=2"]
ENV = {"OMP_NUM_THREADS": "1"}
QUICK = ("--steps", "2", "--batch", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("table")


@pytest.fixture
def trained(run, folder):
    """A toy run of two steps, and five vectors beside a table."""
    if not (folder / "runs").exists():
        result = run("core.train", *FLOW, *SHORT, cwd=folder, env=ENV)
        assert result.returncode == 0, result.stderr
        records = list(discover().datasets["toy"].scan(folder / "data/toy"))[:5]
        (folder / "inputs").mkdir()
        for number, record in enumerate(records):
            shutil.copy(record.files["toy_vector"][0], folder / f"inputs/{number}.toy")
    return folder


@pytest.fixture
def generate(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return lambda *arguments: main([*QUICK, *arguments, *(("--workers", "1") if "--table" in arguments else ())])


COLUMNS = ("study_id", "prompt.toy_vector", "condition.toy_vector", "seed", "num", "split", "label.size")


def table(folder, rows, name="inputs/table.csv"):
    """Write a table; paths in it begin at its folder."""
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return name


def seven():
    rows = [{"study_id": f"p{number}", "prompt.toy_vector": f"{number}.toy"} for number in range(5)]
    rows[1] |= {"split": "validation", "label.size": "big", "seed": 11}
    return [*rows, {"study_id": "given", "condition.toy_vector": "0.toy", "num": 2}]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def grid(study):
    return discover().modalities["toy_grid"].parts("tiny").reader.build().read(study / "toy_grid.toy").data


def test_a_row_is_the_study_that_the_flags_make(trained, generate):
    generate("--table", table(trained, seven()), "--out", "made")
    names = sorted(path.name for path in (trained / "made").iterdir() if path.is_dir())
    assert names == ["given-0000", "given-0001", "p0", "p1", "p2", "p3", "p4"]
    generate(
        "--prompt", "toy_vector=inputs/1.toy", "--output", "toy_grid", "--seed", "11", "--num", "1", "--out", "one"
    )
    assert np.abs(grid(trained / "made/p1") - grid(trained / "one/0000")).max() < 1e-4
    generate("--condition", "toy_vector=inputs/0.toy", "--seed", "3", "--num", "1", "--out", "other")
    assert np.abs(grid(trained / "made/given-0000") - grid(trained / "other/0000")).max() > 1e-3, "another seed"
    assert (trained / "made/contact_sheet.png").is_file()


def test_tables_beside_the_studies_say_what_they_are(trained, generate):
    generate("--table", table(trained, seven()), "--out", "told")
    record = json.loads((trained / "told/p1/study.json").read_text())
    assert (record["labels"], record["labels_from"], record["split"], record["seed"]) == (
        {"size": "big"}, "table", "validation", 11,
    )  # fmt: skip
    assert record["prompts"]["toy_vector"].startswith("sha256:")
    with (trained / "told/manifest.csv").open() as file:
        rows = {row["study_id"]: row for row in csv.DictReader(file)}
    assert rows["p1"]["split"] == "validation"
    assert rows["p1"]["patient_id"] == record["patient_id"] != rows["p2"]["patient_id"]
    scanned = {record.study: record for record in discover(("manifest",)).datasets["manifest"].scan(trained / "told")}
    assert scanned.keys() == rows.keys()
    datalist = json.loads((trained / "told/datalist.json").read_text())
    assert [item["study_id"] for item in datalist["validation"]] == ["p1"]
    assert len(datalist["training"]) == 6
    assert all((trained / "told" / item["toy_grid"]).is_file() for item in datalist["training"])
    lines = [json.loads(line) for line in (trained / "told/metadata.jsonl").read_text().splitlines()]
    assert [line["study_id"] for line in lines] == list(rows)
    assert lines[0]["toy_grid_file_name"] == "p0/toy_grid.toy"


def test_killed_three_times_it_ends_with_the_same_bytes(trained, generate, monkeypatch):
    command = ("--table", table(trained, seven()))
    generate(*command, "--out", "whole")
    add = generate_write.add_study
    for fatal in ("p1", "p4", "given-0001"):

        def killed(folder, name, write, fatal=fatal):
            if name == fatal:
                (folder / f".medweave-{name}").mkdir()
                raise KeyboardInterrupt
            add(folder, name, write)

        monkeypatch.setattr(generate_write, "add_study", killed)
        with pytest.raises(KeyboardInterrupt):
            generate(*command, "--out", "killed")
        monkeypatch.undo()
        monkeypatch.chdir(trained)
    generate(*command, "--out", "killed")
    assert contents(trained / "killed") == contents(trained / "whole")


def test_two_processes_make_the_bytes_of_one(trained, generate, run):
    command = ("--table", table(trained, seven()))
    generate(*command, "--out", "by_one")
    result = run("core.generate", *QUICK, *command, "--out", "by_two", "--workers", "2", cwd=trained, env=ENV)
    assert result.returncode == 0, result.stderr
    assert contents(trained / "by_two") == contents(trained / "by_one")
    assert result.stderr.count(" tasks in ") == 2, "the log says how much each of them did"


def test_shards_that_are_merged_equal_one_run(trained, generate, capsys):
    command = ("--table", table(trained, seven()))
    generate(*command, "--out", "undivided")
    for number in (1, 2):
        generate(*command, "--shard", f"{number}/2", "--out", f"part{number}")
    parts = [path.name for number in (1, 2) for path in (trained / f"part{number}").iterdir() if path.is_dir()]
    assert sorted(parts) == sorted(path.name for path in (trained / "undivided").iterdir() if path.is_dir())
    generate(*command, "--merge", "part1", "--merge", "part2", "--out", "merged")
    assert same_but_shard("merged", "undivided", trained)
    (home,) = [trained / f"part{number}/p0" for number in (1, 2) if (trained / f"part{number}/p0").exists()]
    assert (trained / "merged/p0/toy_grid.toy").samefile(home / "toy_grid.toy"), "linked, not copied"
    with pytest.warns(MedWeaveWarning, match="part3: is not there"):
        generate(*command, "--merge", "part1", "--merge", "part3", "--out", "lacking")
    assert same_but_shard("lacking", "undivided", trained), "what no shard has is generated"
    with pytest.raises(UserError, match="--merge part1: was made with other settings"):
        generate(*command, "--guidance-scale", "3", "--merge", "part1", "--out", "mixed")
    with pytest.raises(UserError, match="holds no studies of a table"):
        generate(*command, "--merge", "inputs", "--out", "mixed")
    assert not (trained / "mixed").exists()
    capsys.readouterr()
    for number in range(1, 10):
        generate(*command, "--shard", f"{number}/9", "--out", f"many{number}")
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if "has no studies, the table has too few batches of 3" in line]) >= 6
    assert len(list(trained.glob("many*"))) == len(said) - len([line for line in said if "no studies" in line])


def same_but_shard(first, second, folder):
    return contents(folder / first) == contents(folder / second)


def test_rows_that_fail_are_listed_and_only_they_run_again(trained, generate):
    rows = seven()
    rows[3]["prompt.toy_vector"] = "missing.toy"
    rows[5]["num"] = "many"
    command = ("--table", table(trained, rows), "--out", "partly")
    with pytest.raises(UserError, match=r"2 rows or studies of inputs/table.csv failed, see partly/failures.csv"):
        generate(*command)
    with (trained / "partly/failures.csv").open() as file:
        failures = {row["study_id"]: row for row in csv.DictReader(file)}
    assert failures.keys() == {"p3", "given"}
    assert failures["p3"]["line"] == "5"
    assert "missing.toy" in failures["p3"]["reason"]
    assert (trained / "partly/manifest.csv").read_text().count("toy_grid.toy") == 4
    made = {name: (trained / f"partly/{name}/study.json").stat().st_mtime_ns for name in ("p0", "p1", "p2", "p4")}
    shutil.copy(trained / "inputs/3.toy", trained / "inputs/missing.toy")
    rows[5]["num"] = 2
    generate("--table", table(trained, rows), "--out", "partly")
    assert not (trained / "partly/failures.csv").exists()
    assert (trained / "partly/given-0001").is_dir()
    for name, time in made.items():
        assert (trained / f"partly/{name}/study.json").stat().st_mtime_ns == time
    (trained / "inputs/missing.toy").unlink()


def test_a_table_may_grow(trained, generate):
    generate("--table", table(trained, seven()[:2]), "--out", "grown")
    made = (trained / "grown/p0/study.json").stat().st_mtime_ns
    generate("--table", table(trained, seven()[:5]), "--out", "grown")
    assert (trained / "grown/p0/study.json").stat().st_mtime_ns == made
    assert (trained / "grown/p4").is_dir()
    with pytest.raises(UserError, match=r"rows that have changed or are gone from the table \(p4\)"):
        generate("--table", table(trained, seven()[:4]), "--out", "grown")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--prompt", "toy_vector=x"), "--prompt: stands in the table, as a column of its own"),
        (("--num", "3"), "--num: stands in the table"),
        (("--shard", "4/3"), "--shard 4/3: write NUMBER/COUNT"),
        (("--shard", "1/2", "--merge", "a"), "--merge: takes all shards together"),
        (("--seed", "-1"), "--seed -1: must be 0 or more"),
        (("--output", "toy_gird"), "'toy_gird' is not what this run makes"),
        (("--format", "dicom"), "no output has this format"),
    ],
)
def test_wrong_commands_write_nothing(trained, generate, flags, expected):
    name = table(trained, seven())
    before = sorted(trained.rglob("*"))
    with pytest.raises(UserError) as refusal:
        generate("--table", name, "--out", "refused", *flags)
    assert expected in str(refusal.value)
    assert sorted(trained.rglob("*")) == before


def test_a_wrong_table_is_one_line_and_exit_code_2(trained, refused):
    table(trained, [{"study_id": "a", "prompt.toy_vector": "no.toy"}], "inputs/wrong.csv")
    arguments = ("--table", "inputs/wrong.csv", "--out", "none", "--steps", "2")
    assert "no row of the table can be used; line 2, a: " in refused("core.generate", *arguments, cwd=trained, env=ENV)
    assert not (trained / "none").exists()
    assert "goes with --table" in refused("core.generate", "--shard", "1/2", "--out", "none", cwd=trained, env=ENV)


def test_a_file_is_known_by_its_content(trained, generate, run, tmp_path):
    generate("--table", table(trained, seven()[:2]), "--out", "known")
    shutil.copy(trained / "known/p1/toy_grid.toy", tmp_path / "renamed.bin")
    result = run("core.check", str(tmp_path / "renamed.bin"), "--made-by", "known", cwd=trained, env=ENV)
    assert (result.returncode, result.stderr) == (0, "")
    assert "generated as p1/toy_grid.toy" in result.stdout
    (tmp_path / "renamed.bin").write_bytes(b"x" + (tmp_path / "renamed.bin").read_bytes()[1:])
    other = run("core.check", str(tmp_path / "renamed.bin"), "--made-by", "known", cwd=trained, env=ENV)
    assert other.returncode == 1
    assert "not among the studies of known" in other.stdout


def test_questions_of_origin_that_make_no_sense_are_one_line(trained, generate, refused):
    generate("--table", table(trained, seven()[:2]), "--out", "asked")
    settings = {"cwd": trained, "env": ENV}
    assert "holds no generated studies" in refused("core.check", "inputs/0.toy", "--made-by", "inputs", **settings)
    assert "cannot be read" in refused("core.check", "none.toy", "--made-by", "asked", **settings)
    assert "name the file too" in refused("core.check", "--made-by", "asked", **settings)


def test_a_file_that_changed_under_a_finished_study_is_noticed(trained, generate):
    shutil.copy(trained / "inputs/0.toy", trained / "inputs/mine.toy")
    command = ("--table", table(trained, [{"study_id": "a", "prompt.toy_vector": "mine.toy"}], "inputs/mine.csv"))
    generate(*command, "--out", "changing")
    shutil.copy(trained / "inputs/1.toy", trained / "inputs/mine.toy")
    with pytest.raises(UserError, match=r"rows that have changed or are gone from the table \(a\)"):
        generate(*command, "--out", "changing")


def test_a_kill_after_a_table_has_grown_leaves_no_old_tables(trained, generate, monkeypatch):
    generate("--table", table(trained, seven()[:2]), "--out", "half")
    monkeypatch.setattr(
        "core.generate.table.write.finish_folder", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        generate("--table", table(trained, seven()[:3]), "--out", "half")
    monkeypatch.undo()
    monkeypatch.chdir(trained)
    assert not (trained / "half/manifest.csv").exists()
    generate("--table", table(trained, seven()[:3]), "--out", "half")
    assert (trained / "half/manifest.csv").read_text().count("toy_grid.toy") == 3


def test_a_failed_row_may_be_corrected_or_taken_out(trained, generate):
    rows = [*seven()[:2], {"study_id": "b", "prompt.toy_vector": "nowhere.toy", "num": 2}]
    for name in ("corrected", "without"):
        with pytest.raises(UserError, match="2 rows or studies"):
            generate("--table", table(trained, rows), "--out", name)
    generate("--table", table(trained, rows[:2]), "--out", "without")
    assert not (trained / "without/failures.csv").exists()
    rows[2]["prompt.toy_vector"] = "2.toy"
    generate("--table", table(trained, rows), "--out", "corrected")
    assert (trained / "corrected/b-0001").is_dir()


def test_overwriting_with_a_table_that_makes_nothing_removes_nothing(trained, generate):
    generate("--table", table(trained, seven()[:2]), "--out", "precious")
    before = contents(trained / "precious")
    wrong = table(trained, [{"study_id": "x", "prompt.toy_vector": "nowhere.toy"}], "inputs/wrong.csv")
    with pytest.raises(UserError, match="no row of the table can be used"):
        generate("--table", wrong, "--out", "precious", "--overwrite")
    with pytest.raises(UserError, match="is the folder of --out too"):
        generate("--table", table(trained, seven()[:2]), "--merge", "precious", "--out", "precious", "--overwrite")
    assert contents(trained / "precious") == before


def test_a_damaged_record_is_made_again(trained, generate):
    command = ("--table", table(trained, seven()[:2]), "--out", "damaged")
    generate(*command)
    whole = contents(trained / "damaged")
    (trained / "damaged/p1/study.json").write_text("{")
    generate(*command)
    assert contents(trained / "damaged") == whole


def test_a_scale_of_what_is_no_output_stops_the_command(trained, generate):
    with (trained / "inputs/scaled.csv").open("w") as file:
        file.write("study_id,prompt.toy_vector,guidance_scale.toy_vector\na,0.toy,3\n")
    with pytest.raises(UserError, match="no output for a scale in line 2 'toy_vector'"):
        generate("--table", "inputs/scaled.csv", "--output", "toy_grid", "--out", "scaled")
    assert not (trained / "scaled").exists()
