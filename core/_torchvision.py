"""Let a CUDA build of torchvision be imported beside a CPU build of torch.

The wheel that package indexes serve for torchvision is compiled for CUDA. Beside a CPU-only torch its
extension does not load, the operators ``torchvision::nms`` and ``torchvision::qnms`` are never declared, and
``import torchvision`` fails, and with it timm, transformers and diffusers. Declaring the two schemas first is
enough. Importing torch takes seconds, so nothing is done until somebody imports torchvision.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_alive: list[object] = []  # a torch.library.Library withdraws its operators when it is collected


def declare_operators(package: Path) -> None:
    """Declare torchvision's two operator names where a CPU build of torch lacks them.

    ``package`` is the folder of torchvision. Its own extension goes first: where that loads (a CPU build of
    torchvision), it declares the operators, and declaring them twice would be an error.
    """
    import torch

    if torch.version.cuda is not None or torch.version.hip is not None:
        return
    for extension in sorted([*package.glob("_C*.so"), *package.glob("_C*.pyd")]):
        with suppress(OSError):
            torch.ops.load_library(str(extension))
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        # FRAGMENT: another part of the process may own the namespace already
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(_SCHEMAS[name])
        _alive.append(library)


class _CuredLoader(Loader):
    """torchvision's own loader, preceded by the declaration."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__file__ is not None:
            declare_operators(Path(module.__file__).parent)
        self._loader.exec_module(module)

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)


class _TorchvisionFinder(MetaPathFinder):
    """Finds torchvision where Python would, and wraps its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _CuredLoader(spec.loader)
        return spec


def install_cure() -> None:
    """Put the finder first on the meta path, once."""
    if not any(type(finder).__name__ == _TorchvisionFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())
