"""What the stock denoisers have in common: checks, noise level to timestep, and sites."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from core.contract.modality import Site
from core.errors import UserError
from core.nn.schedule import timestep_of_log_snr
from core.nn.sites import ContextSite, attach_at
from core.types import Conditioning, Space


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
