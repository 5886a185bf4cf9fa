"""Sites: the blocks of a denoiser where context attention can be attached, whatever the library (METHOD E13).

A library's block is *adopted*: an instance of a subclass takes over its parameters, submodules and buffers under
the same names. A state dict of the untouched network therefore loads strictly, and an attached module adds exactly
the parameters ``{site}.context_attention.*``.

What the stock denoisers have in common: checks, noise level to timestep, and sites.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor, nn

from core.contract.modality import Site
from core.errors import UserError, unknown_name
from core.nn.schedule import timestep_of_log_snr
from core.types import Conditioning, Context, Space

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
        raise unknown_name("site", site, sites)
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


class SitedDenoiser(nn.Module, ABC):
    """A network behind the `Denoiser` protocol (METHOD E10). Subclasses run it in ``predict``.

    A site is named by the path of its block inside ``network``; what is attached there has the parameters
    ``network.{site}.context_attention.*``. Conditioning travels as an argument only, so that one denoiser can serve
    several threads.
    """

    def __init__(
        self,
        network: nn.Module,
        sites: Sequence[Site],
        *,
        channels: int,
        space: Space,
        prompt_width: int,
        pooled_width: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self._sites = tuple(sites)
        self.latent_shape = (channels, *space)
        self.prompt_width = prompt_width
        self._pooled_width = pooled_width

    def context_sites(self) -> Sequence[Site]:
        """Every transformer block, with its width and the grid of its tokens."""
        return self._sites

    def attach(self, site: str, module: nn.Module) -> None:
        """Register ``module(hidden, context) -> update`` at a site.

        Raises `UserError` for an unknown site and for one that is taken.
        """
        blocks = {one.name: self.network.get_submodule(one.name) for one in self._sites}
        attach_at({name: block for name, block in blocks.items() if isinstance(block, ContextSite)}, site, module)

    def forward(self, noisy: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        """``noisy`` ``batch channel *space``, ``level`` log-SNR ``batch``; same shape as ``noisy`` out.

        Raises `UserError` where latent or conditioning are not what the denoiser was configured for.
        """
        self._check(noisy, conditioning)
        return self.predict(noisy, timestep_of_log_snr(level), conditioning)

    @abstractmethod
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the network; ``timestep`` float32 ``batch``."""

    def _check(self, noisy: Tensor, conditioning: Conditioning) -> None:
        if tuple(noisy.shape[1:]) != self.latent_shape:
            raise UserError(f"the denoiser takes latents {self.latent_shape}, found {tuple(noisy.shape[1:])}")
        if conditioning.prompt.shape[-1] != self.prompt_width:
            width = conditioning.prompt.shape[-1]
            raise UserError(f"the denoiser takes prompt tokens of width {self.prompt_width}, found {width}")
        if self._pooled_width is None:
            return
        if conditioning.pooled is None:
            raise UserError(f"the denoiser needs a pooled vector of width {self._pooled_width}, found none")
        if conditioning.pooled.shape[-1] != self._pooled_width:
            width = conditioning.pooled.shape[-1]
            raise UserError(f"the denoiser takes a pooled vector of width {self._pooled_width}, found {width}")
