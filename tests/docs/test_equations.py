"""The page of equations stays true: every function and test it names exists, and every citation in the code is on it."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/equations.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if re.match(r"\| [EF]\d", line)
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_functions_exist_and_cite_their_equation(row):
    item = row[0].split()[0]
    for path in re.findall(r"`(core\.[\w.]+)`", row[2]):
        module, _, name = path.rpartition(".")
        function = getattr(import_module(module), name)
        text = f"{function.__doc__}\n{import_module(module).__doc__}"
        assert re.search(rf"(?i:method)\b[^.;]*\b{item}\b", text), f"{path} does not cite method {item}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_tests_exist_and_use_the_function(row):
    names = [path.rpartition(".")[2] for path in re.findall(r"`(core\.[\w.]+)`", row[2])]
    tests = "".join((ROOT / path).read_text(encoding="utf-8") for path in re.findall(r"`(tests/[\w/.]+)`", row[3]))
    for name in names:
        assert name in tests, f"{row[0]}: no test of {name}"


def test_every_function_that_cites_an_equation_is_listed():
    listed = {row[0].split()[0] for row in ROWS}
    planned = set(re.findall(r"\b[EF]\d+\b", PAGE.partition("Planned")[2]))
    cited = set()
    for path in (ROOT / "core").rglob("*.py"):
        for citation in re.findall(
            r"(?i:method) ((?:[EF]\d+[a-c]?(?:, | and |-)?)+)", path.read_text(encoding="utf-8")
        ):
            cited |= set(re.findall(r"[EF]\d+", citation))
    assert cited <= listed | planned, cited - listed - planned
