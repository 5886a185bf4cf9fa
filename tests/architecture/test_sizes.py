"""Rooms, files and functions stay small enough to read (rules 7 and 8 of docs/explanation/architecture.md).

Every limit is a function of a tree, so that a planted breach in a small tree shows that it is noticed.
"""

import re
import statistics
from collections import Counter

import pytest

from tests.architecture.source import ROOT, functions, python_files

VAGUE = re.compile(r"(^|_)(utils?|common|misc|helpers?|base|manager|handler|impl)(_|$)")


def num_lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def modules(root, *folders):
    return [path for path in python_files(*folders, root=root) if path.name != "__init__.py"]


def loose_modules(root):
    """More than eight modules directly in ``core/``."""
    loose = sorted(path.name for path in (root / "core").glob("*.py"))
    return loose if len(loose) > 8 else []


def crowded_folders(root):
    """Folders of more than 18 modules."""
    counts = Counter(path.parent for path in modules(root, "core", "plugins"))
    return [str(folder.relative_to(root)) for folder, count in counts.items() if count > 18]


def long_files(root):
    """Files of more than 400 lines."""
    return [path.name for path in python_files("core", "plugins", "benchmarks", root=root) if num_lines(path) > 400]


def core_file_lengths(root):
    """What is wrong with the lengths of core's files: their median, or too many fragments."""
    lengths = [num_lines(path) for path in modules(root, "core")]
    fragments = sum(length <= 45 for length in lengths)
    wrong = [] if 100 <= statistics.median(lengths) <= 150 else [f"median {statistics.median(lengths)}"]
    return wrong + ([f"{fragments} files of 45 lines or fewer"] if fragments > 12 else [])


def long_functions(root):
    """Functions of more than 60 lines, or a median above 10."""
    sizes = [
        (name, lines)
        for path in python_files("core", "plugins", "benchmarks", root=root)
        for name, lines in functions(path)
    ]
    wrong = [name for name, lines in sizes if lines > 60]
    return wrong + (["median"] if statistics.median(lines for _, lines in sizes) > 10 else [])


def vague_names(root):
    files = python_files("core", "plugins", "benchmarks", root=root)
    return [path.name for path in files if VAGUE.search(path.stem)]


LIMITS = (loose_modules, crowded_folders, long_files, core_file_lengths, long_functions, vague_names)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.__name__)
def test_the_tree_is_within(limit):
    assert limit(ROOT) == []


@pytest.fixture
def tree(tmp_path):
    """A small tree within all limits: 20 modules of 120 lines, with short functions."""
    function = "def f():\n    return 1\n\n\n"
    for number in range(20):
        folder = tmp_path / "core" / f"room{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module{number}.py").write_text(function * 30)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "benchmarks").mkdir()
    assert not [limit.__name__ for limit in LIMITS if limit(tmp_path)]
    return tmp_path


def write(tree, name, text):
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("limit", "planted"),
    [
        (loose_modules, {f"core/loose{number}.py": "x = 1\n" * 120 for number in range(9)}),
        (crowded_folders, {f"plugins/p/m{number}.py": "x = 1\n" for number in range(19)}),
        (long_files, {"benchmarks/long.py": "x = 1\n" * 401}),
        (core_file_lengths, {f"core/room/m{number}.py": "x = 1\n" * 200 for number in range(30)}),
        (core_file_lengths, {f"core/room/m{number}.py": "x = 1\n" * 40 for number in range(13)}),
        (long_functions, {"plugins/p/m.py": "def f():\n" + "    x = 1\n" * 60}),
        (long_functions, {f"core/room/m{n}.py": ("def f():\n" + "    x = 1\n" * 10) * 60 for n in range(20)}),
        (vague_names, {"plugins/p/mask_helpers.py": "x = 1\n"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_planted_breach_is_noticed(tree, limit, planted):
    for name, text in planted.items():
        write(tree, name, text)
    assert limit(tree)
