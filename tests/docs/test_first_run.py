"""What the tutorial shows is what the commands print. Numbers are those of another run, so their places are compared."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/tutorials/first_run.md").read_text(encoding="utf-8")
EXCERPT = re.compile(r"<!-- excerpt: (.+?) -->\n```\n(.+?)```", re.S)
EXCERPTS = dict(EXCERPT.findall(PAGE))
TRAIN = "--flow toy_vector-toy_grid --data toy --run runs/toy"


def shape(line):
    """A line without its numbers and the width of its gaps."""
    return re.sub(r" +", " ", re.sub(r"(?<![\w@])-?\d+(\.\d+)?(?![\w@])", "#", line)).rstrip()


def require_excerpt(block, output):
    """Every line stands in the output, in this order; ``...`` stands for lines that are left out."""
    printed = [shape(line) for line in output.splitlines()]
    place = 0
    for line in block.splitlines():
        if line == "..." or line.startswith("$ "):
            continue
        assert shape(line) in printed[place:], f"not printed, or not in this order: {line}\n{output}"
        place = printed.index(shape(line), place) + 1
    return place


def test_there_are_two():
    assert list(EXCERPTS) == [TRAIN, "--flow text-xray,text-ct,ct-mri --plan"]


def test_the_plan(python, tmp_path):
    _, (command, block) = EXCERPTS.items()
    result = python("", "-m", "core.train", *command.split(), cwd=tmp_path)
    assert require_excerpt(block, result.stdout) > 10, result.stderr


def test_the_run_and_a_second_one(python, tmp_path):
    """Shortened: the steps change the numbers alone."""
    arguments = ["-m", "core.train", *TRAIN.split(), "--steps", "4"]
    first = python("", *arguments, cwd=tmp_path)
    assert require_excerpt(EXCERPTS[TRAIN], first.stdout) > 3, first.stderr
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("weights.safetensors")}
    second = python("", *arguments, cwd=tmp_path)
    assert "runs/toy is finished already, nothing was trained; its table:" in second.stdout
    table = [line for line in first.stdout.splitlines() if line.startswith(("autoencoder", "align", "diffuse"))]
    assert table
    assert all(line in second.stdout.splitlines() for line in table)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("weights.safetensors")} == weights


@pytest.mark.parametrize("line", ["align 9 rounds", "a b"])
def test_a_line_that_is_not_printed_is_found(line):
    with pytest.raises(AssertionError, match="not printed"):
        require_excerpt(line, "align: 3 rounds\nb a")
