"""The latents of a modality's training studies on disk: mean and log-variance, never a draw (method E7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.data.studies import Studies
from core.engine.checkpoint import digest_of, read_tensors, write_tensors
from core.engine.distributed import Compute
from core.errors import UserError
from core.types import Posterior

if TYPE_CHECKING:
    from torch import Tensor

_SHARD = 256  # samples per file: what an interruption can cost, and what a process computes at a time


def cached_latents(
    module: Any, name: str, indices: Sequence[int], studies: Studies, folder: Path, compute: Compute
) -> Posterior:
    """Return means and log-variances ``sample channel *space`` of these studies, in their order, on the CPU.

    They are read from ``<folder>/<modality>/`` where the same weights made them from the same data, and computed
    otherwise; an interruption costs one file. Processes divide the files. Draws are not cached: their noise would be
    the same in every epoch.
    """
    import torch

    origin = {"modality": name, "weights": digest_of(module.state_dict()), "data": studies.fingerprint(name)}
    shards = []
    for number, start in enumerate(range(0, len(indices), _SHARD)):
        chosen = list(indices[start : start + _SHARD])
        shards.append((folder / name / f"{number:05d}.safetensors", {**origin, "places": chosen}))
    for path, about in shards[compute.index :: compute.count]:
        if _read(path, about) is None:
            write_tensors(path, _encoded(module, name, about["places"], studies, compute), about)
    compute.barrier()
    parts = [_require_shard(path, about) for path, about in shards]
    means, logvars = (torch.cat([part[key] for part in parts]) for key in ("mean", "logvar"))
    return Posterior(mean=means, logvar=logvars)


def _encoded(module: Any, name: str, indices: Sequence[int], studies: Studies, compute: Compute) -> dict[str, Tensor]:
    import torch

    module.eval()
    means, logvars = [], []
    for batch in studies.batches(name, indices):
        with torch.no_grad():
            posterior = module.encode(compute.to_device(batch))
        means.append(posterior.mean.float().cpu())
        logvars.append(posterior.logvar.float().cpu())
    return {"mean": torch.cat(means), "logvar": torch.cat(logvars)}


def _read(path: Path, about: dict[str, Any]) -> dict[str, Tensor] | None:
    """Return the tensors of a shard, or ``None`` where it is missing, damaged or of another origin."""
    try:
        tensors, stored = read_tensors(path)
    except UserError:
        return None
    return tensors if stored == about else None


def _require_shard(path: Path, about: dict[str, Any]) -> dict[str, Tensor]:
    tensors = _read(path, about)
    if tensors is None:
        raise UserError(f"{path}: the latent cache changed while it was read; is another run using this folder?")
    return tensors
