"""Modules that the checks of a denoiser attach at its sites; PyTorch is imported when they are made."""

from __future__ import annotations

from typing import Any

from core.contract.modality import Site
from core.types import Context


def new_module(site: Site, context_width: int) -> Any:
    """Return a fresh module for a site, whose update is exactly 0: context attention, or one that reads the mean."""
    import torch

    from core.nn import ContextAttention

    if site.kind == "attention":
        return ContextAttention(site.width, context_width, 1)

    class MeanUpdate(torch.nn.Module):
        """The mean of the tokens that count, stronger from cell to cell."""

        def __init__(self) -> None:
            super().__init__()
            self.to_update = torch.nn.Linear(context_width, site.width, bias=False)
            torch.nn.init.zeros_(self.to_update.weight)

        def forward(self, context: Context) -> Any:
            counted = context.mask[..., None].to(context.tokens)
            mean = self.to_update((context.tokens * counted).sum(1) / counted.sum(1))
            ramp = torch.linspace(1, 0, torch.Size(site.grid).numel()).reshape(site.grid)
            return mean[(..., *[None] * len(site.grid))] * ramp

    return MeanUpdate()


def probe(site: Site, seen: dict[str, tuple[int, ...]]) -> Any:
    """Return a module that notes the shape of the hidden state at a site and adds nothing."""
    import torch

    class Probe(torch.nn.Module):
        def forward(self, hidden: Any, context: Context) -> Any:
            seen[site.name] = tuple(hidden.shape)
            return torch.zeros_like(hidden)

    class ResidualProbe(torch.nn.Module):
        """An update of the declared shape: where it does not fit the hidden state, adding it fails."""

        def forward(self, context: Context) -> Any:
            update = torch.zeros(len(context.tokens), site.width, *site.grid)
            seen[site.name] = tuple(update.shape)
            return update

    return ResidualProbe() if site.kind == "residual" else Probe()
