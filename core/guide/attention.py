"""Context attention whose queries have positions in the patient, and the sites of a denoiser (method E13, F2, F7)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from core.contract.modality import Denoiser, Site
from core.guide.aligned import AlignedUpdate, new_aligned_update
from core.guide.position_bias import PositionBias, has_positions
from core.guide.positions import NUM_FEATURES, WAVELENGTHS_MM, grid_positions, position_features, spacing_mm
from core.guide.summary import SummaryUpdate
from core.nn.context_attention import ContextAttention, repeated
from core.types import Context, Geometry

_STRENGTH = 4.0  # of the first head's preference for nearby tokens, at the start
_HEADS = (8, 4, 2, 1)
_HEAD_WIDTH = 8  # at least


class GuidanceAttention(ContextAttention):
    """Context attention of one site whose queries have positions (method E13, F2; MedM2G Eq. 6).

    A query contains its absolute position. A token near it is preferred, along the axes that both know: the score
    gains ``sum over axes and wavelengths of gain * cos(2 pi distance / wavelength)``. Heads start out from
    strongly local to indifferent. A fresh one adds exactly 0. Without a geometry it is `ContextAttention` itself.
    """

    query_features: Tensor

    def __init__(self, site: Site, geometry: Geometry | None, context_width: int) -> None:
        num_heads = heads_of(site.width)
        super().__init__(site.width, context_width, num_heads)
        position, axes = grid_positions(geometry, site.grid)
        # It follows from the geometry, so it is not among the weights.
        self.register_buffer("query_features", position_features(position, axes), persistent=False)
        embedding = nn.Linear(NUM_FEATURES, site.width, bias=False) if axes.any() else None
        self.register_module("to_place", embedding)  # the name of its weights in files
        self.gain = nn.Parameter(_first_gain(num_heads, spacing_mm(position))) if axes.any() else None
        self.position_bias = PositionBias(position, axes)

    @property
    def position_embedding(self) -> nn.Module | None:
        """Return the layer that embeds the positions of the queries; ``None`` where they have none."""
        return self._modules["to_place"]

    def query_tokens(self, hidden: Tensor) -> Tensor:
        """Return the hidden tokens, normalised, with their positions, ``batch tokens width``."""
        embedding = self.position_embedding
        normed = super().query_tokens(hidden)
        return normed if embedding is None else normed + embedding(self.query_features)

    def score_mask(self, context: Context, num: int) -> Tensor | None:
        """Return the bias of the positions, minus infinity where a token is masked; ``row head query length``."""
        mask = super().score_mask(context, num)
        if self.gain is None or not has_positions(context):
            return mask
        bias = repeated(self.position_bias(self.gain, context), num)
        return bias if mask is None else bias.masked_fill(~mask, -torch.inf)


SiteModule = GuidanceAttention | AlignedUpdate | SummaryUpdate


class GuidanceSites(nn.Module):
    """The modules that `attach_guidance` put into one denoiser: exactly what a round may train there.

    A mapping from site name to module. Weights are named by the site with ``/`` for its dots.
    """

    def __init__(self, modules: Mapping[str, SiteModule]) -> None:
        super().__init__()
        self._paths = {name: name.replace(".", "/") for name in modules}
        for name, module in modules.items():
            self.add_module(self._paths[name], module)

    def __getitem__(self, site: str) -> SiteModule:
        module = self._modules[self._paths[site]]
        assert isinstance(module, SiteModule)  # noqa: S101 - nothing else is ever added
        return module

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def attach_guidance(
    denoiser: Denoiser,
    geometry: Geometry | None,
    *,
    context_width: int | None,
    aligned_width: int | None = None,
    summary_width: int | None = None,
) -> GuidanceSites:
    """Attach fresh modules at the sites and freeze all else of the denoiser (method E13).

    A `GuidanceAttention` at every attention site, for tokens of ``context_width``; none where that is ``None``. With
    ``aligned_width``, the width of aligned features, an `AlignedUpdate` at every residual site that has a grid in the
    patient; with ``summary_width`` a `SummaryUpdate` at the residual site without a grid (method F7).
    ``geometry`` is the receiving modality's default one, ``None`` for a modality without space. The modules become
    submodules of the denoiser too: load and save the denoiser's own weights before.
    """
    if isinstance(denoiser, nn.Module):
        denoiser.requires_grad_(False)
    modules: dict[str, SiteModule] = {}
    for site in denoiser.context_sites():
        module = _new_module(site, geometry, context_width, aligned_width, summary_width)
        if module is not None:
            modules[site.name] = module
            denoiser.attach(site.name, module)
    return GuidanceSites(modules)


def _new_module(
    site: Site,
    geometry: Geometry | None,
    context_width: int | None,
    aligned_width: int | None,
    summary_width: int | None,
) -> SiteModule | None:
    if site.kind == "residual" and not site.grid:
        return None if summary_width is None else SummaryUpdate(site, summary_width)
    if site.kind == "residual":
        return None if aligned_width is None else new_aligned_update(site, geometry, aligned_width)
    if context_width is None:
        return None
    same_axes = geometry is not None and len(site.grid) == len(geometry.shape)
    return GuidanceAttention(site, geometry if same_axes else None, context_width)


def heads_of(width: int) -> int:
    """Return the largest number of heads, up to 8, that divides a width and leaves each at least 8 features."""
    return next((heads for heads in _HEADS if width % heads == 0 and width // heads >= _HEAD_WIDTH), 1)


def _first_gain(num_heads: int, spacing: float) -> Tensor:
    """Return ``head wavelength``: the spectrum of a Gaussian as wide as one cell, weaker from head to head."""
    wavelength = torch.tensor(WAVELENGTHS_MM)
    spectrum = torch.exp(-2 * (math.pi * spacing / wavelength).square())
    strength = torch.linspace(_STRENGTH, 0, num_heads + 1)[:-1] / spectrum.sum()
    return strength[:, None] * spectrum
