"""Files and functions stay small enough to read (DESIGN 7.8), and names say what a thing is (DESIGN 8)."""

import re
import statistics

from tests.architecture.source import ROOT, functions, python_files

FILES = python_files("core", "plugins", "benchmarks")
VAGUE = re.compile(r"(^|_)(utils?|common|misc|helpers?|base|manager|handler|impl)(_|$)")


def test_no_file_over_500_lines():
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {str(path.relative_to(ROOT)): size for path, size in sizes.items() if size > 500}
    assert not long
    print(f"files: {len(sizes)}, median {statistics.median(sizes.values())} lines, longest {max(sizes.values())}")
    assert statistics.median(sizes.values()) < 150


def test_no_function_over_80_lines():
    sizes = {(str(path.relative_to(ROOT)), name): lines for path in FILES for name, lines in functions(path)}
    assert not {place: lines for place, lines in sizes.items() if lines > 80}
    assert statistics.median(sizes.values()) < 15


def test_no_vague_file_name():
    assert not [str(path.relative_to(ROOT)) for path in FILES if VAGUE.search(path.stem)]
