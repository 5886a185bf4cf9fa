"""The page of results says what was measured, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import main_job_table

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "results.md").read_text()


def test_the_tables_of_the_page_are_those_of_the_results():
    assert PAGE.endswith("\n" + main_job_table.markdown())


@pytest.mark.parametrize("case", ["main_job", "main_job_long"])
def test_every_row_of_a_run_belongs_under_one_heading(case):
    rows = main_job_table.rows_of(case)
    if not rows:
        pytest.skip(f"{case} has no results yet")
    assert {main_job_table.group_of(*key) for key in rows} == {*main_job_table.GROUPS, main_job_table.TRAINING}


def test_intervals_stay_whole_where_two_runs_differ():
    references = [
        f"vs. mismatched patient {value} [{value}, {value}]; {verdict}"
        for value, verdict in (("+0.1", "beneficial"), ("+0.2", "no benefit shown"))
    ]
    row = {"phase": "guide", "what": "mri ← ct", "value": 0.1, "low": 0.0, "high": 0.2}
    rows = [{("guide", row["what"]): row | {"reference": text}} for text in references]
    table = list(main_job_table._table(main_job_table.TRAINING, *rows))
    assert f"| {' / '.join(references)} |" in table[-2]
