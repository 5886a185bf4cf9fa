"""Stack canonical samples to a `Batch`, and take them out of it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.contract.modality import Parts
from core.errors import UserError
from core.preprocess.grid import CANONICAL, sample_name
from core.types import Batch, DataSpec, Sample

if TYPE_CHECKING:
    from torch import Tensor

_PAD = 0


def collate(samples: Sequence[Sample], spec: DataSpec) -> Batch:
    """Return one batch of one modality. Token ids are padded with 0 to the longest and masked; the rest is stacked.

    Raises `ValueError` that names the sample: no sample, several modalities, or one that does not meet ``spec``.
    """
    import torch

    if not samples:
        raise ValueError("a batch needs at least one sample")
    arrays = [_require_array(sample, samples[0].modality, spec, index) for index, sample in enumerate(samples)]
    if spec.kind == "tokens":
        data, mask = _pad(arrays)
        return Batch(modality=samples[0].modality, data=data, mask=mask)
    return Batch(modality=samples[0].modality, data=torch.from_numpy(np.stack(arrays)))


def empty_input(name: str, parts: Parts) -> Batch:
    """Return a batch of one empty input of a modality: an empty text, or data constant at their lowest value, -1.

    Papers drop a prompt by giving its encoder such an input (method E6; MedCoDi-M, CoDi_XR).
    """
    import torch

    spec = parts.data
    if spec.kind != "tokens":
        return Batch(modality=name, data=torch.full((1, spec.channels, *spec.space), -1.0))
    if parts.preprocess is None:
        raise UserError(
            f"'{name}' has no preprocessor at this preset, which an empty text needs; set prompt.null=learned"
        )
    return collate([parts.preprocess.build().apply(Sample(modality=name, data=""))], spec)


def uncollate(batch: Batch, like: Sequence[Sample] | None = None) -> list[Sample]:
    """Return the rows of a batch as canonical samples on the CPU; padding is removed.

    Geometry and meta come from ``like``, one sample per row, where it is given.
    """
    if like is not None and len(like) != len(batch):
        raise ValueError(f"{len(batch)} rows, but {len(like)} samples to take geometry from")
    rows = batch.data.detach().cpu()
    rows = rows.float() if rows.is_floating_point() else rows
    samples = []
    for index, row in enumerate(rows):
        data = row if batch.mask is None else row[batch.mask[index].cpu()]
        meta = {**(like[index].meta if like else {}), CANONICAL: True}
        geometry = like[index].geometry if like else None
        samples.append(Sample(modality=batch.modality, data=data.numpy().copy(), geometry=geometry, meta=meta))
    return samples


def _require_array(sample: Sample, modality: str, spec: DataSpec, index: int) -> np.ndarray:
    name = f"sample {index} of the batch ({sample_name(sample)})"
    if sample.modality != modality:
        raise ValueError(f"{name}: is '{sample.modality}' in a batch of '{modality}'")
    if isinstance(sample.data, str):
        raise ValueError(f"{name}: is text in original form; apply the preprocessor first")
    data, kind = sample.data, np.int64 if spec.kind == "tokens" else np.float32
    if data.dtype != kind:
        raise ValueError(f"{name}: is {data.dtype}, expected {np.dtype(kind)}; apply the preprocessor first")
    fault = _token_fault(data, spec) if spec.kind == "tokens" else _shape_fault(data, spec)
    if fault:
        raise ValueError(f"{name}: {fault}")
    return data


def _token_fault(ids: np.ndarray, spec: DataSpec) -> str | None:
    if ids.ndim != 1 or not 0 < len(ids) <= spec.space[0]:
        return f"has shape {ids.shape}, expected 1 to {spec.space[0]} ids"
    if ids.min() < 0 or ids.max() >= (spec.vocabulary or 0):
        return f"has ids from {ids.min()} to {ids.max()}, expected 0 to {(spec.vocabulary or 0) - 1}"
    return None


def _shape_fault(data: np.ndarray, spec: DataSpec) -> str | None:
    expected = (spec.channels, *spec.space)
    return None if data.shape == expected else f"has shape {data.shape}, expected {expected}"


def _pad(arrays: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return ids ``batch length`` and mask ``batch length``."""
    import torch

    lengths = torch.tensor([len(array) for array in arrays])
    data = torch.full((len(arrays), int(lengths.max())), _PAD, dtype=torch.int64)
    for row, array in zip(data, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(array)
    return data, torch.arange(data.shape[1])[None] < lengths[:, None]
