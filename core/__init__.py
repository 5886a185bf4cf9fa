"""MedWeave: generate several medical modalities together.

Importing this package costs milliseconds: no torch, no plugin, no disk.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from core._torchvision import install_cure

__version__ = "0.1.0"


def _take_our_plugins() -> str:
    """Let ``plugins`` be the package beside this one; return a warning where Python would take another one.

    The name is a common one, and a package of the current folder comes first on the path.
    """
    ours = Path(__file__).parents[1] / "plugins" / "__init__.py"
    loaded = sys.modules.get("plugins")
    if loaded is not None:
        origin = loaded.__file__
        same = origin is not None and Path(origin) == ours
        return "" if same else f"{origin}: another package 'plugins' is loaded already; import medweave before it"
    spec = find_spec("plugins")
    origin = None if spec is None else spec.origin
    if origin is not None and Path(origin) == ours:
        return ""
    sys.path.insert(0, str(ours.parents[1]))
    if origin is None:
        return ""
    return f"{Path(origin).parent}: another package 'plugins' is left alone, MedWeave's is {ours.parent}"


install_cure()
shadowed_plugins = _take_our_plugins()
