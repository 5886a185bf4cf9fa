"""`core` never decides by the name of a modality, an alias or a plugin (rule 2 of docs/explanation/architecture.md)."""

import ast

import pytest

from core.config.registry import load_registry
from core.contract.discovery import discover
from tests.architecture.source import ROOT, decisions_by_name, python_files


def installed_names() -> set[str]:
    catalog = discover()
    names = {*catalog.modalities, *load_registry().aliases, *(plugin.name for plugin in catalog.plugins)}
    assert {"text", "ct", "mri", "xray"} <= names
    return names


def test_core_decides_by_no_name():
    names = installed_names()
    found = [
        f"{path.relative_to(ROOT)}:{line} decides by the name '{name}'"
        for path in python_files("core")
        for line, name in decisions_by_name(path.read_text(encoding="utf-8"), names)
    ]
    assert not found, "\n".join(found)


def test_core_does_not_even_mention_one():
    """A name kept in a constant would hide a decision from the test above; the toys of the kit are exempt."""
    names = installed_names()
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} holds the name '{node.value}'"
        for path in python_files("core")
        if "testing" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "planted",
    [
        'if name == "ct": pass',
        'if "ct" != name: pass',
        'if name in ("mri", "ct"): pass',
        'x = {"ct": 3}',
        'x = table["ct"]',
        'x = table.get("ct", 0)',
        'match name:\n    case "ct":\n        pass',
        'match name:\n    case "mri" | "ct":\n        pass',
        'x = 1 if name.startswith("xray") else 2',
    ],
)
def test_a_planted_decision_is_found(planted):
    assert list(decisions_by_name(planted, {"ct", "mri", "xray"}))


@pytest.mark.parametrize("harmless", ['x = "ct"', 'f(name="ct")', 'if name == "cat": pass', '"""ct"""'])
def test_other_uses_of_the_word_are_free(harmless):
    assert not list(decisions_by_name(harmless, {"ct"}))
