"""A table of requests: what its rows may say, which batches and shards they make, and what is refused."""

import json

import pytest

from core.errors import UserError
from core.generate.table.plan import Shard, planned_batches
from core.generate.table.read import read_table
from core.generate.table.row import TableRow

MODALITIES = ("text", "ct", "mri")


def read(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return read_table(path, MODALITIES)


def test_a_csv_row_says_all_that_the_flags_can(tmp_path):
    columns = (
        "study_id,prompt.text,negative_prompt.text,condition.ct,prompt_weight.text,guidance_scale,guidance_scale.mri"
    )
    columns += ",context_scale,seed,num,split,label.effusion"
    (row,) = read(tmp_path, f'{columns}\np1,"A, b.",no,scan.nii.gz,2,3,4.5,1,7,2,test,1\n').rows
    assert row == TableRow(
        line=2,
        study_id="p1",
        prompt={"text": "A, b."},
        negative_prompt={"text": "no"},
        condition={"ct": "scan.nii.gz"},
        prompt_weight={"text": 2.0},
        guidance_scale={"default": 3.0, "mri": 4.5},
        context_scale={"default": 1.0},
        label={"effusion": "1"},
        seed=7,
        num=2,
        split="test",
    )
    assert row.study_names() == ["p1-0000", "p1-0001"]


def test_json_lines_say_the_same_flat_or_nested(tmp_path):
    flat = '{"study_id": "a", "prompt.text": "x", "seed": 3, "label.age": 61}'
    nested = '{"study_id": "a", "prompt": {"text": "x"}, "seed": 3, "label": {"age": 61}}'
    first, second = (read(tmp_path, f"\n{line}\n", "t.jsonl").rows for line in (flat, nested))
    assert first == second
    assert first[0].label == {"age": "61"}


def test_a_row_has_a_seed_of_its_own_wherever_it_stands(tmp_path):
    head = "study_id,prompt.text,seed\n"
    rows = read(tmp_path, head + "a,x,\nb,x,\nc,x,5\n").rows
    moved = read(tmp_path, head + "new,y,\nb,x,\na,x,\n").rows
    seeds = {row.study_id: row.seed_of(1) for row in rows}
    assert seeds["c"] == 5
    assert seeds["a"] != seeds["b"]
    assert {row.study_id: row.seed_of(1) for row in moved}.items() >= {"a": seeds["a"], "b": seeds["b"]}.items()
    assert rows[0].seed_of(2) != seeds["a"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("b,x,-1,,", "seed: Input should be greater than or equal to 0"),
        ("b,x,,0,", "num: Input should be greater than or equal to 1"),
        ("b,x,,,1e9", "guidance_scale: Input should be less than or equal to 100"),
        ("b,x,,,nan", "guidance_scale: Input should be a finite number"),
        ("b,x,one,,", "seed: Input should be a valid integer"),
        ("../b,x,,,", "study_id: Value error, is no name of a folder"),
        ("b.,x,,,", "study_id: Value error, is no name of a folder"),
        ("Manifest.csv,x,,,", "study_id: Value error, is the name of a file that is written beside the studies"),
        ("b,,,,", "has no prompt and no condition; fill a cell"),
        (f"b,{'word ' * 200_000},,,", "characters, at most 20000 are read"),
    ],
)
def test_a_wrong_row_fails_alone(tmp_path, row, reason):
    table = read(tmp_path, f"study_id,prompt.text,seed,num,guidance_scale\na,x,,,\n{row}\nc,x,,,\n")
    assert [each.study_id for each in table.rows] == ["a", "c"]
    (failure,) = table.failures
    assert failure.line == 3
    assert reason in failure.reason


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("study_id,promt.text\na,x\n", "t.csv", "no column 'promt.text'"),
        ("study_id,prompt.tekst\na,x\n", "t.csv", "column 'prompt.tekst' names no modality of this run .*mean 'text'"),
        ("study_id,label.\na,x\n", "t.csv", "no column 'label.'"),
        ("prompt.text\nx\n", "t.csv", "lacks the column study_id"),
        ("study_id,seed,seed\na,1,2\n", "t.csv", "has the column 'seed' twice"),
        ("study_id\n\n", "t.csv", "has no rows"),
        ("", "t.csv", "lacks the column study_id"),
        ("study_id,prompt.text\n,x\n", "t.csv", "line 2: study_id is empty"),
        ("study_id,prompt.text\na,x\nb,x\nA,y\n", "t.csv", "line 4: study_id 'A' stands in line 2 too"),
        ("study_id,prompt.text,num\na,x,2\na-0001,x,1\n", "t.csv", "'a-0001' stands in line 2 too"),
        ("study_id,prompt.text\na,no, comma\n", "t.csv", "line 2: has more cells than there are columns"),
        ('{"study_id": "a"}\n[1]\n', "t.jsonl", "line 2: is no JSON object"),
        ('{"study_id": "a"', "t.jsonl", "line 1: is no JSON"),
        ('{"study_id": "a", "label": {"x": "\\ud800"}}', "t.jsonl", "line 1: holds half a character"),
        ("study_id,label.a|b\na,1\n", "t.csv", r"no column 'label.a\|b'"),
        ('{"study_id": "a", "prompts": {"text": "x"}}', "t.jsonl", "no column 'prompts.text'"),
        ("study_id\na\n", "t.xlsx", r"is no table \(.csv or .jsonl\)"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(tmp_path, content, name, message):
    with pytest.raises(UserError, match=message) as refusal:
        read(tmp_path, content, name)
    assert "\n" not in str(refusal.value)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no\.csv: cannot be read"):
        read_table(tmp_path / "no.csv", MODALITIES)
    (tmp_path / "latin.csv").write_bytes("study_id,prompt.text\na,Erg\xfc\xdfe\n".encode("latin-1"))
    with pytest.raises(UserError, match="is no table in UTF-8"):
        read_table(tmp_path / "latin.csv", MODALITIES)


def many(count, **fields):
    return [TableRow(line=number, study_id=f"s{number:03d}", **fields) for number in range(count)]


def names(batches):
    return [[study.name for study in batch] for batch in batches]


def test_rows_of_one_kind_share_batches():
    prompted, given = many(5, prompt={"text": "x"}), [TableRow(line=9, study_id="g", num=2, condition={"ct": "c"})]
    batches = names(planned_batches([*prompted[:2], *given, *prompted[2:]], 3, Shard()))
    assert batches == [["s000", "s001", "s002"], ["s003", "s004"], ["g-0000", "g-0001"]]


def test_shards_divide_the_batches_and_growth_moves_none():
    rows = [*many(40, prompt={"text": "x"}), TableRow(line=50, study_id="g", condition={"ct": "c"})]
    whole = names(planned_batches(rows, 4, Shard()))
    parts = [names(planned_batches(rows, 4, Shard(number, 3))) for number in (1, 2, 3)]
    assert sorted(batch for part in parts for batch in part) == sorted(whole)
    assert min(map(len, parts)) >= 3
    longer = rows[:40] + [
        TableRow(line=60 + number, study_id=f"z{number}", prompt={"text": "y"}) for number in range(9)
    ]
    for number, part in enumerate(parts, 1):
        grown = names(planned_batches([*longer, rows[-1]], 4, Shard(number, 3)))
        assert all(batch in grown for batch in part)


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "1/0", "-1/4", "2/4/8", ""])
def test_shards_that_make_no_sense_are_refused(text):
    with pytest.raises(UserError, match="write NUMBER/COUNT"):
        Shard.parse(text)
    assert str(Shard.parse("2/4")) == "2/4"


def test_a_changed_row_is_noticed_and_a_moved_one_is_the_same():
    (row,) = many(1, prompt={"text": "x"})
    assert row.digest() == row.model_copy(update={"line": 99}).digest()
    assert row.digest() != row.model_copy(update={"prompt": {"text": "y"}}).digest()
    assert json.loads(row.kind())[0] == [["text"], [], []]


def test_labels_are_one_and_zero_however_a_spreadsheet_writes_them(tmp_path):
    (row,) = read(tmp_path, "study_id,label.a,label.b,label.c\nx,1.0,False,big\n").rows
    assert row.label == {"a": "1", "b": "0", "c": "big"}
    (row,) = read(tmp_path, '{"study_id": "x", "label": {"a": 1.0, "b": true, "c": 0}}', "t.jsonl").rows
    assert row.label == {"a": "1", "b": "1", "c": "0"}


def test_empty_columns_at_the_end_do_no_harm(tmp_path):
    table = read(tmp_path, "study_id,prompt.text,,\na,x,,\nb,y,,\n")
    assert [row.study_id for row in table.rows] == ["a", "b"]
    with pytest.raises(UserError, match="more cells than there are columns"):
        read(tmp_path, "study_id,prompt.text,\na,x,y\n")
