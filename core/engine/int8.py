"""Weights in 8 bits: matrices and kernels as whole numbers with a scale for each output, for bundles that are small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SCALE = ":scale"  # behind the name of a tensor that is stored in 8 bits
_LEAST = 1024  # numbers; smaller tensors stay as they are
_LARGEST = 127


def to_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 tensors of two axes or more as int8, each row with its scale (the largest value over 127).

    The error of a weight is at most half its scale: 0.4 % of the largest weight of its row. Others stay as they are.
    """
    import torch

    stored: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if value.dtype != torch.float32 or value.ndim < 2 or value.numel() < _LEAST:
            stored[name] = value
            continue
        scale = value.abs().flatten(1).amax(1).clamp(min=1e-12) / _LARGEST
        rows = (value / scale.view(-1, *[1] * (value.ndim - 1))).round().clamp(-_LARGEST, _LARGEST)
        stored |= {name: rows.to(torch.int8), f"{name}{SCALE}": scale}
    return stored


def from_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `to_int8` was given, up to its error; tensors that are no such weights stay as they are."""
    scales = {name.removesuffix(SCALE): value for name, value in tensors.items() if name.endswith(SCALE)}
    return {
        name: value.float() * scales[name].view(-1, *[1] * (value.ndim - 1)) if name in scales else value
        for name, value in tensors.items()
        if not name.endswith(SCALE)
    }
