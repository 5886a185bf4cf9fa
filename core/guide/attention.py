"""Context attention whose queries have positions in the patient, and its sites in a denoiser (method E13, F2)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.contract.modality import Denoiser, Site
from core.errors import UserError
from core.nn import ContextAttention
from core.types import Context, Geometry, Space

WAVELENGTHS_MM = tuple(8.0 * 2**power for power in range(8))  # finer than any token grid, coarser than any field
NUM_WAVES = 2 * len(WAVELENGTHS_MM)  # cosines and sines, per axis
NUM_FEATURES = 3 * NUM_WAVES + 3
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
    query_waves: Tensor

    def __init__(self, site: Site, geometry: Geometry | None, context_width: int) -> None:
        num_heads = heads_of(site.width)
        super().__init__(site.width, context_width, num_heads)
        position, axes = grid_positions(geometry, site.grid)
        # Both follow from the geometry, so they are not among the weights.
        self.register_buffer("query_features", position_features(position, axes), persistent=False)
        self.register_buffer("query_waves", waves(position, axes), persistent=False)
        embedding = nn.Linear(NUM_FEATURES, site.width, bias=False) if axes.any() else None
        self.register_module("to_place", embedding)  # the name of its weights in files
        self.gain = nn.Parameter(_first_gain(num_heads, spacing_mm(position))) if axes.any() else None

    @property
    def position_embedding(self) -> nn.Module | None:
        """Return the layer that embeds the positions of the queries; ``None`` where they have none."""
        return self._modules["to_place"]

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """``hidden`` ``batch tokens width`` to the update that is added to it, same shape and dtype."""
        embedding = self.position_embedding
        if embedding is None or self.gain is None:
            return super().forward(hidden, context)
        dtype = self.to_update.weight.dtype
        partners = self.norm_context(context.tokens.to(dtype))
        query = self._by_head(self.to_query(self.norm_hidden(hidden.to(dtype)) + embedding(self.query_features)))
        near, far = self._waves(self.gain, context, dtype)
        attended = F.scaled_dot_product_attention(
            torch.cat([query / math.sqrt(query.shape[-1]), near.expand(len(query), -1, -1, -1)], -1),
            torch.cat([self._by_head(self.to_key(partners)), far.expand(-1, self.num_heads, -1, -1)], -1),
            self._by_head(self.to_value(partners)),
            attn_mask=context.mask[:, None, None, :],
            scale=1.0,
        )
        return self.to_update(attended.transpose(1, 2).flatten(2)).to(hidden.dtype)

    def _waves(self, gain: Tensor, context: Context, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the waves of queries (times gain), ``1 head tokens wave``, and of context, ``batch 1 length wave``."""
        gain = torch.cat([gain, gain], -1)[:, None, None]  # one for the cosine and the sine of a wavelength
        near = (self.query_waves * gain).flatten(-2)[None]
        return near.to(dtype), waves(context.position_mm, context.axes).flatten(-2)[:, None].to(dtype)


class GuidanceSites(nn.Module):
    """The modules that `attach_guidance` put into one denoiser: exactly what a round may train there.

    A mapping from site name to module. Weights are named by the site with ``/`` for its dots.
    """

    def __init__(self, modules: dict[str, GuidanceAttention]) -> None:
        super().__init__()
        self._paths = {name: name.replace(".", "/") for name in modules}
        for name, module in modules.items():
            self.add_module(self._paths[name], module)

    def __getitem__(self, site: str) -> GuidanceAttention:
        module = self._modules[self._paths[site]]
        assert isinstance(module, GuidanceAttention)  # noqa: S101 - nothing else is ever added
        return module

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def attach_guidance(denoiser: Denoiser, geometry: Geometry | None, *, context_width: int) -> GuidanceSites:
    """Attach a fresh `GuidanceAttention` at every site and freeze all else of the denoiser (method E13).

    ``geometry`` is the receiving modality's default one, ``None`` for a modality without space. The modules become
    submodules of the denoiser too: load and save the denoiser's own weights before.
    """
    if isinstance(denoiser, nn.Module):
        denoiser.requires_grad_(False)
    modules = {}
    for site in denoiser.context_sites():
        same_axes = geometry is not None and len(site.grid) == len(geometry.shape)
        modules[site.name] = GuidanceAttention(site, geometry if same_axes else None, context_width)
        denoiser.attach(site.name, modules[site.name])
    return GuidanceSites(modules)


def heads_of(width: int) -> int:
    """Return the largest number of heads, up to 8, that divides a width and leaves each at least 8 features."""
    return next((heads for heads in _HEADS if width % heads == 0 and width // heads >= _HEAD_WIDTH), 1)


def _first_gain(num_heads: int, spacing: float) -> Tensor:
    """Return ``head wavelength``: the spectrum of a Gaussian as wide as one cell, weaker from head to head."""
    wavelength = torch.tensor(WAVELENGTHS_MM)
    spectrum = torch.exp(-2 * (math.pi * spacing / wavelength).square())
    strength = torch.linspace(_STRENGTH, 0, num_heads + 1)[:-1] / spectrum.sum()
    return strength[:, None] * spectrum


def known_axes(geometry: Geometry | None) -> tuple[bool, bool, bool]:
    """Return along which of (R, A, S) the points of this geometry have a known position.

    In a volume and a slice all three are known, in a projection those that it was not summed along, without geometry
    none. For a 2-D image ``source_header["projection"]`` decides between slice and projection. Where it is missing, an
    image across the body's long axis (S) counts as a slice and any other as a projection, so that no axis is claimed
    wrongly. An image with ``source_header["unplaced"]`` has no known axis.
    """
    if geometry is None or geometry.source_header.get("unplaced"):
        return False, False, False
    if len(geometry.shape) != 2:
        return True, True, True
    normal = np.cross(geometry.affine[:3, 0], geometry.affine[:3, 1])
    summed = int(np.argmax(np.abs(normal)))
    if not geometry.source_header.get("projection", summed != 2):
        return True, True, True
    return summed != 0, summed != 1, summed != 2


def grid_positions(geometry: Geometry | None, grid: Space) -> tuple[Tensor, Tensor]:
    """Return the centres of the cells when the field of view is cut into ``grid``; row by row.

    Float32 ``length 3`` in mm, (R, A, S), and bool ``length 3``; a position is 0 along an axis that is not known.
    Raises `UserError` where geometry and grid differ in their number of axes.
    """
    length = math.prod(grid)
    if geometry is None:
        return torch.zeros(length, 3), torch.zeros(length, 3, dtype=torch.bool)
    if len(geometry.shape) != len(grid):
        raise UserError(
            f"a geometry of shape {geometry.shape} does not fit a token grid {grid}: both need the same number of axes"
        )
    index = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(length, len(grid))
    affine = geometry.resized(grid).affine
    position = torch.from_numpy(index @ affine[:3, : len(grid)].T + affine[:3, 3]).float()
    axes = torch.tensor(known_axes(geometry)).expand(length, 3).clone()
    return position * axes, axes


def spacing_mm(position: Tensor) -> float:
    """Return the longest distance from a cell to its nearest neighbour, mm; 0 for a single cell.

    ``position`` ``length 3``.
    """
    if len(position) < 2:
        return 0.0
    distance = torch.cdist(position, position)
    distance[distance < 1e-3] = math.inf  # itself, and cells that differ along an unknown axis only
    nearest = distance.amin(1)
    return float(nearest[nearest.isfinite()].amax()) if nearest.isfinite().any() else 0.0


def waves(position_mm: Tensor, axes: Tensor) -> Tensor:
    """Return cosines and sines of a position at `WAVELENGTHS_MM`, 0 along unknown axes (method F2).

    ``... 3`` to ``... 3 NUM_WAVES``. The product of two, summed, is the sum of cos(2π Δ / wavelength).
    """
    frequency = 2 * math.pi / position_mm.new_tensor(WAVELENGTHS_MM)
    angle = position_mm[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1) * axes[..., None]


def position_features(position_mm: Tensor, axes: Tensor) -> Tensor:
    """Return the waves of a position and its axis mask as one vector: ``... 3`` to ``... NUM_FEATURES`` (method F2)."""
    return torch.cat([waves(position_mm, axes).flatten(-2), axes.to(position_mm)], -1)
