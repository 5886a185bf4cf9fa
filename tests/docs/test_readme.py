"""The first screen of the README: a picture and the main job's command, within 100 words."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- (main job|tests) -->\n```sh\n(.+?)\n```", re.S)


def words(text):
    """Words that a reader sees: no marks of Markdown, no address of a picture."""
    return re.findall(r"[\w'.,:;/-]*\w[\w'.,:;/-]*", re.sub(r"\]\([^)]*\)|<!--.*?-->|```\w*", " ", text))


def test_the_main_job_is_on_the_first_screen():
    before, mark, _ = README.partition("<!-- main job -->")
    assert mark
    assert len(words(before)) <= 100
    picture = re.search(r"!\[.+?\]\((.+?)\)", before)
    assert picture
    assert (ROOT / picture.group(1)).is_file()


def test_two_commands_set_up_a_fresh_machine():
    commands = dict(BLOCK.findall(README))
    assert list(commands) == ["main job", "tests"]
    for command in commands.values():
        assert command.startswith("python3 -m venv .venv && .venv/bin/python -m pip install -q -c constraints.txt -e ")
        assert "\n" not in command
    assert commands["main job"].endswith(".venv/bin/python -m core.train --flow text-xray,text-ct,ct-mri")
    assert commands["tests"].endswith(".venv/bin/python -m pytest -n 2 tests")


def test_every_page_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(((?!https?:)[^)#]+)", README)
    assert len(links) > 10
    assert not [link for link in links if not (ROOT / link).exists()]
