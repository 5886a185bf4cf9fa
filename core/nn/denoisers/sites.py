"""What the stock denoisers share: input checks, noise level to timestep, and sites for context attention (method E13).

A site is a transformer block of a library whose instance is *reclassed*: its class is replaced by a subclass, while
parameters, submodules and buffers keep their names. A state dict of the original network therefore loads strictly, and
an attached module adds exactly the parameters ``{site}.context_attention.*``. Residual sites (method F7) are in
`core.nn.denoisers.residual_sites`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from core.contract.modality import Site
from core.errors import UserError, unknown_name
from core.nn.schedule import angle, interpolated_timestep, universal_timestep
from core.types import Conditioning, Context, Objective, Space

ATTACHED = "context_attention"
SUMMARY = "summary"  # the residual site of the vectors that condition the network
Block = TypeVar("Block", bound=nn.Module)


class SitedDenoiser(nn.Module, ABC):
    """A network behind the `Denoiser` protocol (method E10). Subclasses run it in ``predict``.

    A site is named by the path of its block inside ``network``; what is attached there has the parameters
    ``network.{site}.context_attention.*``, at a residual site ``residual_context.{site}.*`` with ``/`` for dots.
    Conditioning travels as an argument only, so that one denoiser can serve
    several threads.

    The network receives its noise level as a timestep: `universal_timestep`, or with ``pretrained_log_snr`` (float64
    ``timestep``) that of the schedule on which it was trained before. ``pretrained_objective``: what it predicts.
    """

    pretrained_angles: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        sites: Sequence[Site],
        *,
        channels: int,
        space: Space,
        prompt_width: int,
        pooled_width: int | None = None,
        pretrained_log_snr: Tensor | None = None,
        pretrained_objective: Objective | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        angles = None if pretrained_log_snr is None else angle(pretrained_log_snr).float()
        # It follows from the folder, so it is not among the weights.
        self.register_buffer("pretrained_angles", angles, persistent=False)
        self.pretrained_objective = pretrained_objective
        self._sites = (*sites, Site(SUMMARY, pooled_width or prompt_width, (), "residual"))
        self.residual_context = nn.ModuleDict()
        self.latent_shape = (channels, *space)
        self.prompt_width = prompt_width
        self.pooled_width = pooled_width

    def context_sites(self) -> Sequence[Site]:
        """Return every transformer block, with its width and the grid of its tokens, and the residual sites.

        The last is that of the summaries, whose update is added to the pooled vector, or to the first prompt token of
        a network that takes no pooled vector.
        """
        return self._sites

    def attach(self, site: str, module: nn.Module) -> None:
        """Register ``module(hidden, context) -> update``, or ``module(context) -> update`` at a residual site.

        Raises `UserError` for an unknown site and for an occupied one.
        """
        known = {each.name: each for each in self._sites}
        if site not in known:
            raise unknown_name("site", site, known)
        if known[site].kind == "attention":
            block = self.network.get_submodule(site)
            attach_at({site: block} if isinstance(block, ContextSite) else {}, site, module)
            return
        if _residual_name(site) in self.residual_context:
            raise occupied(site)
        self.residual_context[_residual_name(site)] = module

    def updates(self, noisy: Tensor, context: Context | None) -> dict[str, Tensor]:
        """Return the updates of the hidden states at residual sites that hold a module, by site.

        They have as many rows as ``noisy``.
        """
        if context is None or not self.residual_context:
            return {}
        updates = {}
        for site in self._sites:
            name = _residual_name(site.name)
            if site.kind == "residual" and site.name != SUMMARY and name in self.residual_context:
                updates[site.name] = _repeated(self.residual_context[name](context).to(noisy.dtype), len(noisy))
        return updates

    def summarised(self, conditioning: Conditioning) -> Conditioning:
        """Return the conditioning with the update of the summaries of the partners, where a module reads them (F7)."""
        if conditioning.context is None or SUMMARY not in self.residual_context:
            return conditioning
        prompt, update = conditioning.prompt, self.residual_context[SUMMARY](conditioning.context)
        update = _repeated(update.to(prompt.dtype), len(prompt))
        if self.pooled_width is not None and conditioning.pooled is not None:
            return replace(conditioning, pooled=conditioning.pooled + update)
        return replace(conditioning, prompt=torch.cat([prompt[:, :1] + update[:, None], prompt[:, 1:]], 1))

    def forward(self, noisy: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict from ``noisy`` ``batch channel *space`` at log-SNR ``level`` ``batch``; same shape as ``noisy``.

        Raises `UserError` where latent or conditioning differ from the configuration.
        """
        self._require_inputs(noisy, conditioning)
        return self.predict(noisy, self.timestep(level), self.summarised(conditioning))

    def timestep(self, level: Tensor) -> Tensor:
        """Return the timestep that the network receives at log-SNR ``level`` (method E10); float32, same shape."""
        if self.pretrained_angles is None:
            return universal_timestep(level)
        return interpolated_timestep(self.pretrained_angles, level)

    @abstractmethod
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the network; ``timestep`` float32 ``batch``."""

    def _require_inputs(self, noisy: Tensor, conditioning: Conditioning) -> None:
        if tuple(noisy.shape[1:]) != self.latent_shape:
            raise UserError(f"the denoiser takes latents {self.latent_shape}, found {tuple(noisy.shape[1:])}")
        if conditioning.prompt.shape[-1] != self.prompt_width:
            width = conditioning.prompt.shape[-1]
            raise UserError(f"the denoiser takes prompt tokens of width {self.prompt_width}, found {width}")
        if self.pooled_width is None:
            return
        if conditioning.pooled is None:
            raise UserError(f"the denoiser needs a pooled vector of width {self.pooled_width}, found none")
        if conditioning.pooled.shape[-1] != self.pooled_width:
            width = conditioning.pooled.shape[-1]
            raise UserError(f"the denoiser takes a pooled vector of width {self.pooled_width}, found {width}")


class ContextSite(nn.Module):
    """Mixin of a transformer block that takes at most one ``module(hidden, context) -> update``."""

    site: str

    def attach(self, module: nn.Module) -> None:
        """Register ``module`` as the submodule ``context_attention``; `UserError` where the site is occupied."""
        if self._attached() is not None:
            raise occupied(self.site)
        self.add_module(ATTACHED, module)

    def joined(self, hidden: Tensor, context: Context | None) -> Tensor:
        """Return ``hidden`` ``batch tokens width`` plus the update; unchanged without a module or a context."""
        attached = self._attached()
        return hidden if attached is None or context is None else hidden + attached(hidden, context)

    def _attached(self) -> nn.Module | None:
        return self._modules.get(ATTACHED)


def attach_at(sites: Mapping[str, ContextSite], site: str, module: nn.Module) -> None:
    """Attach ``module`` at the named site; `UserError` for an unknown name or an occupied site."""
    if site not in sites:
        raise unknown_name("site", site, sites)
    sites[site].attach(module)


def occupied(site: str) -> UserError:
    """Return the error for a site that holds a module already."""
    return UserError(f"site '{site}' already holds a module; a site holds one at most")


def _repeated(update: Tensor, rows: int) -> Tensor:
    """Return an update for as many rows: branches of guidance, one after the other, share their context."""
    return update if len(update) == rows else update.repeat(rows // len(update), *[1] * (update.ndim - 1))


def _residual_name(site: str) -> str:
    return site.replace(".", "/")


def reclass(original: nn.Module, kind: type[Block]) -> Block:
    """Return an instance of ``kind``, a subclass of the original's type, that shares the original's state."""
    reclassed = kind.__new__(kind)
    reclassed.__dict__ = original.__dict__
    return reclassed


def replace_each(network: nn.Module, kind: type[nn.Module], replacement: Callable[[str, nn.Module], nn.Module]) -> None:
    """Replace every block whose type is exactly ``kind`` by ``replacement(path, block)``."""
    paths = [path for path, module in network.named_modules() if type(module) is kind]
    for path in paths:
        parent, _, child = path.rpartition(".")
        network.get_submodule(parent).register_module(child, replacement(path, network.get_submodule(path)))


def unet_level(path: str, num_levels: int) -> int:
    """Return how often the grid is halved at a block of a UNet, from its path (``up_blocks.0.…`` is deepest)."""
    stage, _, rest = path.partition(".")
    if stage == "down_blocks":
        return int(rest.partition(".")[0])
    if stage == "up_blocks":
        return num_levels - 1 - int(rest.partition(".")[0])
    return num_levels - 1


def halved(space: Sequence[int], times: int) -> Space:
    """Return the grid after ``times`` halvings, each rounded up as a convolution of stride 2 does."""
    return tuple(-(-size // 2**times) for size in space)
