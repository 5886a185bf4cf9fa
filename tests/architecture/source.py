"""Reads our own source as syntax trees, and finds what the house forbids."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_files(*folders: str, root: Path = ROOT) -> list[Path]:
    return sorted(path for folder in folders for path in (root / folder).rglob("*.py"))


def decisions_by_name(source: str, names: Collection[str]) -> Iterator[tuple[int, str]]:
    """Line and name of every decision that depends on a literal name.

    A comparison, ``in``, ``match`` case, dictionary key, ``get``/``pop`` argument or subscript with such a literal.
    """
    for node in ast.walk(ast.parse(source)):
        for literal in _deciding(node):
            if isinstance(literal, ast.Constant) and literal.value in names:
                yield literal.lineno, str(literal.value)


def _deciding(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Compare):
        for operand in (node.left, *node.comparators):
            yield from _members(operand)
    elif isinstance(node, ast.MatchValue):
        yield node.value
    elif isinstance(node, ast.Dict):
        yield from (key for key in node.keys if key is not None)
    elif isinstance(node, ast.Subscript):
        yield node.slice
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("get", "pop", "setdefault", "startswith", "endswith", "index", "count"):
            for argument in node.args[:1]:
                yield from _members(argument)


def _members(operand: ast.expr) -> Iterator[ast.expr]:
    yield from operand.elts if isinstance(operand, (ast.Tuple, ast.List, ast.Set)) else [operand]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and number of lines of every function of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1
