"""Sites: the blocks of a denoiser where context attention can be attached, whatever the library (METHOD E13).

A library's block is *adopted*: an instance of a subclass takes over its parameters, submodules and buffers under
the same names. A state dict of the untouched network therefore loads strictly, and an attached module adds exactly
the parameters ``{site}.context_attention.*``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor, nn

from core.errors import UserError, unknown
from core.types import Context, Space

ATTACHED = "context_attention"
Block = TypeVar("Block", bound=nn.Module)


class ContextSite(nn.Module):
    """Mixed into a transformer block: holds at most one ``module(hidden, context) -> update``."""

    site: str

    def attach(self, module: nn.Module) -> None:
        """Register ``module`` as the submodule ``context_attention``; `UserError` where there is one already."""
        if self._attached() is not None:
            raise UserError(f"site '{self.site}' already holds a module; a site holds one at most")
        self.add_module(ATTACHED, module)

    def joined(self, hidden: Tensor, context: Context | None) -> Tensor:
        """``hidden`` ``batch tokens width`` plus the update; as it is without a module or without a context."""
        attached = self._attached()
        return hidden if attached is None or context is None else hidden + attached(hidden, context)

    def _attached(self) -> nn.Module | None:
        return self._modules.get(ATTACHED)


def attach_at(sites: Mapping[str, ContextSite], site: str, module: nn.Module) -> None:
    """Attach ``module`` at the named site; `UserError` for an unknown name or an occupied site."""
    if site not in sites:
        raise unknown("site", site, sites)
    sites[site].attach(module)


def adopt(original: nn.Module, kind: type[Block]) -> Block:
    """An instance of ``kind``, a subclass of the original's type, that holds the original's very own state."""
    adopted = kind.__new__(kind)
    adopted.__dict__ = original.__dict__
    return adopted


def replace_each(network: nn.Module, found: type[nn.Module], adopted: Callable[[str, nn.Module], nn.Module]) -> None:
    """Put ``adopted(path, block)`` in the place of every block whose type is exactly ``found``."""
    paths = [path for path, module in network.named_modules() if type(module) is found]
    for path in paths:
        parent, _, child = path.rpartition(".")
        network.get_submodule(parent).register_module(child, adopted(path, network.get_submodule(path)))


def unet_level(path: str, num_levels: int) -> int:
    """How often the grid has been halved at a block of a UNet, read from its path (``up_blocks.0.…`` is deepest)."""
    stage, _, rest = path.partition(".")
    if stage == "down_blocks":
        return int(rest.partition(".")[0])
    if stage == "up_blocks":
        return num_levels - 1 - int(rest.partition(".")[0])
    return num_levels - 1


def halved(space: Sequence[int], times: int) -> Space:
    """The grid after ``times`` halvings, each rounded up as a convolution of stride 2 does."""
    return tuple(-(-size // 2**times) for size in space)
