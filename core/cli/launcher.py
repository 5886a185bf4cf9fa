"""The console script ``medweave``.

The wheel installs this file as ``medweave/__init__.py``, outside the package ``core``, and it imports nothing of
``core`` before it knows whose it is. The name ``core`` is a common one: where Python finds another package ``core``
first, the script says so in one line, and does not fail somewhere inside that package.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

COMMANDS = {
    "train": "train a model along a flow",
    "generate": "write synthetic studies with a trained run",
    "prepare": "audit a data set, and store its samples as training reads them",
    "check": "list plugins and modalities; run the contract's checks on one",
}
_MODULES = {"generate": "core.generate.__main__"}
_MARK = b'"""MedWeave'


def core_is_ours() -> bool:
    """Return whether the ``core`` that Python would import is MedWeave's, without running any of it."""
    spec = find_spec("core")
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    return origin is not None and origin.is_file() and origin.read_bytes().startswith(_MARK)


def _where() -> str:
    spec = find_spec("core")
    return str(spec.origin or next(iter(spec.submodule_search_locations or ["?"]))) if spec else "nowhere"


def main() -> None:
    """Run ``python -m core.COMMAND`` with the remaining arguments."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        lines = "\n".join(f"  {command:<10}{title}" for command, title in COMMANDS.items())
        print(f"usage: medweave COMMAND [--help] [...]\n\n{lines}")
        return
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        print(f"error: no command '{name}' (known: {', '.join(COMMANDS)}){hint}", file=sys.stderr)
        sys.exit(2)
    if not core_is_ours():
        print(
            f"error: another package named 'core' is found before MedWeave's: {_where()}; "
            "leave that folder or take it off PYTHONPATH",
            file=sys.stderr,
        )
        sys.exit(2)
    from importlib import import_module

    sys.argv = [f"medweave {name}", *arguments]
    module = import_module(_MODULES.get(name, f"core.{name}"))
    import_module("core.cli.command").run(module.main)
