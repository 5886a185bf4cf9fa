"""The page on recipes states the values that the registry has."""

import re
from pathlib import Path

import pytest

from core.config.registry import load_registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/recipes.md").read_text(encoding="utf-8")
RECIPES = load_registry(ROOT / "registry.toml").recipes
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|\n ").split("|")] for line in PAGE.splitlines() if "|" in line
]
HEADER = next(row for row in ROWS if row[0] == "switch")
SWITCHES = [row for row in ROWS if re.fullmatch(r"[a-z]+\.[a-z_]+", row[0])]


def shown(value):
    if value is None:
        return "\N{EN DASH}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_paper_has_a_column():
    assert HEADER[1:] == ["medm2g", "medcodi_m", "codi_xr", "medisyn"]
    assert len(SWITCHES) == 20


@pytest.mark.parametrize("row", SWITCHES, ids=lambda row: row[0])
def test_a_row_has_the_values_of_the_registry(row):
    group, _, field = row[0].partition(".")
    values = [shown(getattr(getattr(RECIPES[name], group), field)) for name in HEADER[1:]]
    assert row[1:] == values
