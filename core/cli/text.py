"""Plain text of at most 100 columns: aligned columns, folded lists, readable numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import wrap

WIDTH = 100
# Control characters, and those that turn the direction of writing: a terminal obeys them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text in which a terminal finds no command: names of files and texts of others may hold some.

    Line ends and tabs stay.
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def as_single_line(text: str) -> str:
    """Return the same with its line ends escaped too."""
    return printable(text).replace("\n", "\\n").replace("\t", " ")


def labelled(label: str, text: str, *, indent: int = 0, column: int = 12) -> list[str]:
    """Return ``label`` and next to it ``text``, folded in a column."""
    left = " " * indent + label.ljust(column)
    first, *rest = wrap(text, WIDTH - len(left), break_long_words=False, break_on_hyphens=False) or [""]
    return [(left + first).rstrip(), *(" " * len(left) + line for line in rest)]


def columns(rows: Iterable[Sequence[str]], *, indent: int = 2, right: frozenset[int] = frozenset()) -> list[str]:
    """Return rows with every column as wide as its widest entry, and the last one folded; ``right``: flush right."""
    rows = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) if index in right else cell.ljust(width)
                 for index, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        left = " " * indent + "".join(f"{cell}  " for cell in cells[:-1])
        lines += labelled(left, cells[-1], column=len(left))
    return lines


def in_bytes(count: float) -> str:
    """Return e.g. ``1.5 GB``; decimal units."""
    return _scaled(count, ("bytes", "kB", "MB", "GB", "TB"))


def in_flops(count: float) -> str:
    """Return e.g. ``1.5 TFLOP``."""
    return _scaled(count, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"))


def in_time(seconds: float) -> str:
    """Return e.g. ``4 min``, ``3.2 h``, ``5.1 days``; under a minute is ``1 min``."""
    minutes = seconds / 60
    if minutes < 90:
        return f"{max(1, round(minutes))} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"


def _scaled(count: float, units: Sequence[str]) -> str:
    power = 0
    while count >= 1000 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.0f} {units[0]}" if power == 0 else f"{count:.3g} {units[power]}"
