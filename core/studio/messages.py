"""What the page may say: one line, and no path of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from core.cli.text import as_single_line

# A path with a folder in it, up to the next white space or mark; its last part may be shown.
_PATH = re.compile(r"(?<![\w.:/\\~])(?:~|[A-Za-z]:)?[/\\](?:[^\s'\"()\[\],;:/\\]+[/\\])+([^\s'\"()\[\],;:/\\]*)")


def public(message: object, folders: Iterable[Path] = ()) -> str:
    """Return a message in one line, without the folders of this machine: of a path its last part is left.

    ``folders``: those that are known to occur, whose names may hold white space.
    """
    text = as_single_line(str(message))
    for folder in folders:
        for known in {str(folder), str(folder.resolve())}:
            text = text.replace(f"{known}/", "").replace(known, folder.name)
    return _PATH.sub(lambda match: match[1] or "a folder", text)
