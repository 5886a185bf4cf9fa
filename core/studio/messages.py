"""What the page may say: one line, and no path of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from core.cli.text import as_single_line

# An absolute path with a folder in it, up to the next white space or mark; no address and no "mg/dL".
_PATH = re.compile(r"(?<![\w.\\/~])(?!//)(?:~|[A-Za-z]:)?[/\\](?:[^\s'\"()\[\],;:/\\]+[/\\])+([^\s'\"()\[\],;:/\\]*)")
_MARKS = r"[^'\"()\[\],;:\n]*"  # between the marks that may surround a path


def public(message: object, folders: Iterable[Path] = ()) -> str:
    """Return a message in one line, without the folders of this machine: of a path its last part is left.

    ``folders``: absolute ones that may occur, whose names and content may hold white space.
    """
    text = as_single_line(str(message))
    for folder in folders:
        text = re.sub(re.escape(str(folder)) + rf"(?:/{_MARKS})?", lambda match: match[0].rpartition("/")[2], text)
    return _PATH.sub(lambda match: match[1] or "a folder", text)


def private_folders(*folders: Path) -> list[Path]:
    """Return folders as messages may name them, plain and resolved, the longest first; no root and no relative one."""
    named = {each for folder in folders for each in (folder, folder.resolve())}
    return sorted((each for each in named if each.is_absolute() and len(each.parts) > 1), key=str, reverse=True)
