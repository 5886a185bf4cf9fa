"""Checks of a sample before a file is written, the same for every format of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.errors import UserError
from core.types import Sample


def storable(sample: Sample, path: Path, axes: tuple[int, ...]) -> np.ndarray:
    """The sample's array ``channel *space`` with as many spatial axes as one of ``axes``.

    `UserError` that names ``path``: text, no number at all, not real numbers, other axes, or another shape than the
    sample's own geometry has.
    """
    if isinstance(sample.data, str):
        raise UserError(f"{path}: the sample is text, expected an array; write it with the writer of its own modality")
    data = np.asarray(sample.data)
    if data.dtype.kind not in "iufb":
        raise UserError(f"{path}: the sample holds {data.dtype}, expected real numbers")
    if data.ndim - 1 not in axes:
        wanted = " or ".join(map(str, axes))
        raise UserError(f"{path}: the sample has shape {data.shape}, expected channels and {wanted} spatial axes")
    if data.size == 0:
        raise UserError(f"{path}: the sample has shape {data.shape} and so no values; nothing was written")
    if sample.geometry is not None and sample.geometry.shape != data.shape[1:]:
        raise UserError(
            f"{path}: the sample has shape {data.shape[1:]}, but its geometry {sample.geometry.shape};"
            " resize both together"
        )
    return data
