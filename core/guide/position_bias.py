"""What the distance between a hidden token and a context token adds to the attention scores (method F2).

The cosines of all distances depend on two geometries alone: not on the sample, the step or the noise. They are computed
once per pair of geometries, for every site with that grid. The bias, their sum weighted by ``gain``, is computed once
per site and set of partners, and at every step only while ``gain`` is trained.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from torch import Tensor, nn

from core.guide.positions import distance_cosines
from core.types import Context

_TABLES = 32  # pairs of geometries whose cosines are in memory
_BIASES = 8  # sets of partners whose bias a site has in memory


class Positions(NamedTuple):
    """``position_mm`` ``row length 3``, ``axes`` bool of that shape, and bytes that are equal where both are.

    There is a single row where all samples of a batch agree, as those of one sender do.
    """

    position_mm: Tensor
    axes: Tensor
    content: bytes


_positions_of_contexts: WeakKeyDictionary[Context, Positions] = WeakKeyDictionary()
_tables: OrderedDict[Hashable, Tensor] = OrderedDict()


class PositionBias(nn.Module):
    """The bias of one site: ``sum over axes and wavelengths of gain * cos(2 pi distance / wavelength)`` (method F2).

    ``position_mm`` and ``axes`` ``query 3`` of its hidden tokens. It has no weights: ``gain`` ``head wavelength`` is
    the site's.
    """

    position_mm: Tensor
    axes: Tensor

    def __init__(self, position_mm: Tensor, axes: Tensor) -> None:
        super().__init__()
        self.register_buffer("position_mm", position_mm, persistent=False)
        self.register_buffer("axes", axes, persistent=False)
        self._content = positions_of(position_mm[None], axes[None]).content
        self._biases: OrderedDict[Hashable, Tensor] = OrderedDict()

    def forward(self, gain: Tensor, context: Context) -> Tensor:
        """Return the bias ``row head query length`` in the dtype of ``gain``; ``row`` is 1 or that of the context."""
        sender = context_positions(context)
        if gain.requires_grad and torch.is_grad_enabled():
            return weighted(gain, self._cosines(sender))
        # A step of the optimiser, an average or a file raises the version of the gain.
        key = (sender.content, sender.axes.device, gain.data_ptr(), gain._version, gain.dtype)
        return _recent(self._biases, key, _BIASES, lambda: weighted(gain.detach(), self._cosines(sender)))

    def _cosines(self, sender: Positions) -> Tensor:
        """Return the summed cosines of every distance, float32 ``row wavelength query length``."""
        key = (self._content, sender.content, sender.axes.device)
        return _recent(
            _tables,
            key,
            _TABLES,
            lambda: distance_cosines(self.position_mm.float(), self.axes, sender.position_mm.float(), sender.axes),
        )


def weighted(gain: Tensor, cosines: Tensor) -> Tensor:
    """Return ``row head query length``: the cosines ``row wavelength query length`` weighted by ``head wavelength``."""
    length = cosines.shape[-1]
    summed = gain.float() @ rearrange(cosines, "row wave query length -> row wave (query length)")
    return rearrange(summed, "row head (query length) -> row head query length", length=length).to(gain.dtype)


def has_positions(context: Context) -> bool:
    """Return whether some token of a context knows an axis: without one, no distance adds anything."""
    return bool(context_positions(context).axes.any())


def context_positions(context: Context) -> Positions:
    """Return the positions of a context; computed once, since every site of a forward reads the same context."""
    known = _positions_of_contexts.get(context)
    if known is None:
        known = _positions_of_contexts[context] = positions_of(context.position_mm, context.axes)
    return known


def positions_of(position_mm: Tensor, axes: Tensor) -> Positions:
    """Return positions ``batch length 3`` with a single row where all rows are equal."""
    position_mm, axes = position_mm.detach(), axes.detach()
    if len(position_mm) > 1 and bool((position_mm == position_mm[:1]).all() & (axes == axes[:1]).all()):
        position_mm, axes = position_mm[:1], axes[:1]
    parts = [part.cpu().contiguous().numpy().tobytes() for part in (position_mm.float(), axes)]
    return Positions(position_mm, axes, b"".join([repr(tuple(axes.shape)).encode(), *parts]))


def _recent(values: OrderedDict[Hashable, Tensor], key: Hashable, most: int, make: Callable[[], Tensor]) -> Tensor:
    """Return the value of a key, made where it is new; the least recently used of more than ``most`` is dropped."""
    if key not in values:
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            values[key] = make()
        if len(values) > most:
            values.popitem(last=False)
    values.move_to_end(key)
    return values[key]
