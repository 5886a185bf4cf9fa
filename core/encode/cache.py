"""The latents of a modality's training studies, on disk: mean and log-variance, never a draw (METHOD E7)."""

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

_SHARD = 1024  # samples per file: what a kill can cost, and what a process takes at a time


def cached_latents(
    module: Any, name: str, places: Sequence[int], studies: Studies, folder: Path, compute: Compute
) -> Posterior:
    """Means and log-variances ``sample channel *space`` of these studies, in their order, on the CPU.

    Read from ``<folder>/<modality>/`` where they were made from this data by these weights, computed otherwise; a kill
    costs one file. Processes share the files. A cached draw would bake its noise in, so none is cached.
    """
    import torch

    made_of = {"modality": name, "weights": digest_of(module.state_dict()), "data": studies.fingerprint(name)}
    shards = []
    for index, start in enumerate(range(0, len(places), _SHARD)):
        chosen = list(places[start : start + _SHARD])
        shards.append((folder / name / f"{index:05d}.safetensors", {**made_of, "places": chosen}))
    for path, about in shards[compute.index :: compute.count]:
        if _read(path, about) is None:
            write_tensors(path, _encoded(module, name, about["places"], studies, compute), about)
    compute.barrier()
    read = [_require(path, about) for path, about in shards]
    return Posterior(mean=torch.cat([one["mean"] for one in read]), logvar=torch.cat([one["logvar"] for one in read]))


def _encoded(module: Any, name: str, places: Sequence[int], studies: Studies, compute: Compute) -> dict[str, Tensor]:
    import torch

    module.eval()
    means, logvars = [], []
    for batch in studies.batches(name, places):
        with torch.no_grad():
            found = module.encode(compute.to_device(batch))
        means.append(found.mean.float().cpu())
        logvars.append(found.logvar.float().cpu())
    return {"mean": torch.cat(means), "logvar": torch.cat(logvars)}


def _read(path: Path, about: dict[str, Any]) -> dict[str, Tensor] | None:
    """The tensors of a shard, ``None`` where it is missing, broken or was made of something else."""
    try:
        tensors, found = read_tensors(path)
    except UserError:
        return None
    return tensors if found == about else None


def _require(path: Path, about: dict[str, Any]) -> dict[str, Tensor]:
    tensors = _read(path, about)
    if tensors is None:
        raise UserError(f"{path}: the latent cache changed while it was read; is another run using this folder?")
    return tensors
