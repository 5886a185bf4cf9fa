"""Generate several medical modalities together: the package ``medweave``.

    import medweave
    model = medweave.load("runs/mine")
    study, = model.generate(prompts={"text": "Small left pleural effusion."})

The wheel installs this file as ``medweave/__init__.py``, outside the package ``core``, and it imports nothing of
``core`` before it knows whose it is. The name ``core`` is a common one: another package of that name in the current
folder is left alone, and one line says so. Importing ``medweave`` takes milliseconds.
"""

from __future__ import annotations

import sys
import warnings
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.model.hub import push
    from core.model.model import Model, OutputDescription, SamplingStep, load
    from core.model.study import Study

COMMANDS = {
    "train": "train a model along a flow",
    "generate": "write synthetic studies with a trained run",
    "prepare": "audit a data set, and store its samples as training reads them",
    "export": "write a trained run as a bundle that may be passed on",
    "check": "list plugins and modalities; run the contract's checks on one",
}
_MODULES = {"generate": "core.generate.__main__", "export": "core.export.__main__"}
_HOME = {
    "load": "core.model.model",
    "push": "core.model.hub",
    "Model": "core.model.model",
    "OutputDescription": "core.model.model",
    "SamplingStep": "core.model.model",
    "Study": "core.model.study",
    "__version__": "core",
}
_MARK = b'"""MedWeave'

__all__ = ["Model", "OutputDescription", "SamplingStep", "Study", "load", "push"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'medweave' has no attribute '{name}'")
    load_core()
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


def load_core() -> None:
    """Import MedWeave's own ``core``, whatever else has this name.

    Raises `ImportError` where another ``core`` is loaded already, or ours is nowhere.
    """
    loaded = sys.modules.get("core")
    if loaded is not None:
        if not _is_ours(origin := Path(loaded.__file__ or "?")):
            raise ImportError(f"another package 'core' is loaded already ({origin}); import medweave before it")
        return
    spec = find_spec("core")
    if spec is not None and _is_ours(Path(spec.origin or "?")):
        import_module("core")
        return
    ours = next((path for path in _candidates() if _is_ours(path)), None)
    if ours is None:
        raise ImportError("MedWeave's package 'core' is not installed; pip install medweave again")
    if spec is not None and spec.origin is not None:
        message = f"{Path(spec.origin).parent}: another package 'core' is left alone, MedWeave's is {ours.parent}"
        warnings.warn(message, stacklevel=3)
    sys.path.insert(0, str(ours.parents[1]))  # before the other one; processes that this one starts inherit it
    import_module("core")


def _candidates() -> list[Path]:
    """Return where ours may lie: beside this package, as the wheel has it, or on the path, as a checkout has it."""
    roots = [Path(__file__).parents[1], *map(Path, sys.path)]
    return [root / "core" / "__init__.py" for root in roots]


def _is_ours(file: Path) -> bool:
    """Return whether a file is that of MedWeave's ``core``, without running any of it."""
    return file.is_file() and file.read_bytes().startswith(_MARK)


def main() -> None:
    """Run ``python -m core.COMMAND`` with the remaining arguments."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        lines = "\n".join(f"  {command:<10}{title}" for command, title in COMMANDS.items())
        print(f"usage: medweave COMMAND [--help] [...]\n       medweave --version\n\n{lines}")
        return
    if name != "--version" and name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        print(f"error: no command '{name}' (known: {', '.join(COMMANDS)}){hint}", file=sys.stderr)
        sys.exit(2)
    try:
        with warnings.catch_warnings(record=True) as caught:
            load_core()
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    if name == "--version":
        print(f"medweave {import_module('core').__version__}")
        return
    sys.argv = [f"medweave {name}", *arguments]
    module = import_module(_MODULES.get(name, f"core.{name}"))
    import_module("core.cli.command").run(module.main)
