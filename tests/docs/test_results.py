"""The page of results says what was measured, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import main_job_table

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "results.md").read_text()


def test_the_tables_of_the_page_are_those_of_the_results():
    assert PAGE.endswith("\n" + main_job_table.markdown())


@pytest.mark.parametrize("case", ["main_job", "main_job_long"])
def test_every_line_of_a_run_has_its_place(case):
    lines = main_job_table.rows_of(case)
    if not lines:
        pytest.skip(f"{case} has no results yet")
    assert {main_job_table.group_of(*key) for key in lines} == {*main_job_table.GROUPS, main_job_table.TRAINING}
