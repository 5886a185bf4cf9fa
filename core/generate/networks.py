"""The networks of a run by weight set: built once with seeded weights, or loaded where a stage has trained them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.contract.build import build_part
from core.engine.checkpoint import WEIGHTS, load_about, load_weights, read_digest, read_tensors, save_weights
from core.engine.distributed import Compute
from core.engine.rng import forked_rng
from core.errors import UserError
from core.flow.rounds import WeightSet

_RESTORE = "restore it, or name another folder with --run"


class Networks:
    """Modules on the device of the run. ``homes``: folders of weights that finished stages left."""

    def __init__(
        self, sets: Mapping[str, WeightSet], homes: Mapping[str, Path], folder: Path, seed: int, compute: Compute
    ) -> None:
        self.sets, self.folder, self.seed, self.compute = sets, folder, seed, compute
        self._homes = dict(homes)
        self._modules: dict[str, Any] = {}
        self._about: dict[str, Mapping[str, Any]] = {}

    def of(self, key: str, make: Callable[[], Any] | None = None) -> Any:
        """Return the module of a weight set; ``make`` builds one that no part of a modality declares."""
        if key not in self._modules:
            with forked_rng(self.seed, "weights", key):
                module = make() if make is not None else self._built(key)
            if key in self._homes:
                self._about[key] = load_weights(module, self._homes[key])
                module.eval()
            self._modules[key] = self.compute.to_device(module)
        return self._modules[key]

    def _built(self, key: str) -> Any:
        weights = self.sets[key]
        return build_part(weights.config, key, weights.owners)

    def trained(self, key: str) -> bool:
        """Return whether a finished stage left weights of this set, or one of this process saved them."""
        return key in self._homes or key in self._about

    def about(self, key: str) -> Mapping[str, Any]:
        """Return the record that was saved with a weight set; empty where there is none. Builds no network."""
        if key not in self._about and key in self._homes:
            self._about[key] = load_about(self._homes[key])
        return self._about.get(key, {})

    def save(self, phase: str, key: str, **about: Any) -> None:
        """Write a trained weight set under its phase. What is attached to a denoiser is another weight set."""
        owners = list(self.sets[key].owners) if key in self.sets else []
        self._about[key] = {"weight_set": key, "modalities": owners, **about}
        sites = self._modules.get(f"sites.{key}")
        attached = [] if sites is None else [*sites.parameters(), *sites.buffers()]
        if self.compute.is_main:
            save_weights(self.of(key), self.folder / phase / key, self._about[key], attached)


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run folder's ``progress.json``; `None` where the run has not finished a stage.

    Raises `UserError` where the file is damaged.
    """
    path = folder / "progress.json"
    if not path.is_file():
        return None
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: is damaged ({error}); {_RESTORE}") from error
    if not isinstance(progress, dict) or not {"data", "stages"} <= progress.keys():
        raise UserError(f"{path}: is damaged (expected 'data' and 'stages'); {_RESTORE}")
    return progress


def require_recorded_weights(progress: Any, folder: Path) -> dict[str, str]:
    """Return the digest of every trained weight set of a run, as its finished stages recorded them.

    Raises `UserError` where a file of weights is another one than the run recorded, or has none recorded.
    """
    homes = homes_of(progress, folder)
    order = sorted(progress["stages"].values(), key=lambda stage: stage["number"])
    recorded = {key: digest for stage in order for key, digest in stage.get("digests", {}).items()}
    for key, home in homes.items():
        if recorded.get(key) != read_digest(home / WEIGHTS):
            raise UserError(
                f"{home / WEIGHTS}: is not the file that the run recorded; {_RESTORE}"
                if key in recorded
                else f"{folder / 'progress.json'}: has no record of '{key}'; {_RESTORE}"
            )
    return recorded


def require_whole_weights(folder: Path) -> None:
    """Read all weights of a finished run; `UserError` where a file is damaged, or is not the one that it recorded."""
    progress = read_progress(folder)
    require_recorded_weights(progress, folder)
    for home in homes_of(progress, folder).values():
        read_tensors(home / WEIGHTS)


def homes_of(progress: Any, folder: Path) -> dict[str, Path]:
    """Return the folder with the weights of each finished weight set of a run; the latest where several trained it.

    ``progress`` is the content of the run folder's ``progress.json``; `UserError` where it has another shape.
    """
    try:
        order = sorted(progress["stages"].values(), key=lambda stage: stage["number"])
        return {key: folder / stage["phase"] / key for stage in order for key in stage["weights"]}
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{folder / 'progress.json'}: is damaged (expected 'stages', each with number, phase and weights);"
            f" {_RESTORE}"
        ) from None
