"""The tutorial's files and commands work as they stand on the page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorials/add_a_modality.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", PAGE, re.M | re.S))
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory, pip_install):
    folder = tmp_path_factory.mktemp("fundus")
    for name, content in FILES.items():
        (folder / name).write_text(content, encoding="utf-8")
    pip_install(folder, folder / "site")
    return folder


def test_the_page_has_what_the_tests_run():
    assert set(FILES) == {"pyproject.toml", "medweave_fundus.py", "test_fundus.py"}
    assert COMMANDS == [
        "pip install .",
        "python -m core.check",
        "python -m core.check fundus",
        "python -m core.train --flow text-fundus --plan",
    ]


@pytest.mark.parametrize(
    ("command", "expected"),
    [(COMMANDS[1], "medweave-fundus 0.1.0"), (COMMANDS[2], " 0 failed"), (COMMANDS[3], "1  text-fundus")],
)
def test_commands(python, project, tmp_path, command, expected):
    result = python(project / "site", *command.split()[1:], cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert expected in result.stdout


def test_the_plan_says_that_no_data_hold_it(python, project, tmp_path):
    result = python(project / "site", *COMMANDS[3].split()[1:], cwd=tmp_path)
    assert re.search(r"no data +for .*fundus", result.stdout), result.stdout


def test_its_test_file_collects_every_check(python, project):
    from core.testing import check_names

    result = python(
        project / "site",
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "test_fundus.py",
        cwd=project,
    )
    assert result.stdout.count("test_contract[fundus-tiny-") == len(check_names()), result.stdout


def test_expected_failures_on_the_page_name_a_real_check():
    from core.testing import check_names

    for name in re.findall(r'expected_failures=\{"([\w.]+)"', PAGE):
        assert name in check_names()
