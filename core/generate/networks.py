"""The networks of a run by weight set: made once with seeded weights, or loaded where a stage has trained them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.contract.build import build_part
from core.engine.checkpoint import load_about, load_weights, save_weights
from core.engine.distributed import Compute
from core.engine.rng import forked_rng
from core.errors import UserError
from core.flow.rounds import WeightSet


class Networks:
    """Modules on the device of the run. ``homes``: folders of weights that finished stages left."""

    def __init__(
        self, sets: Mapping[str, WeightSet], homes: Mapping[str, Path], folder: Path, seed: int, compute: Compute
    ) -> None:
        self.sets, self.folder, self.seed, self.compute = sets, folder, seed, compute
        self._homes = dict(homes)
        self._made: dict[str, Any] = {}
        self._about: dict[str, Mapping[str, Any]] = {}

    def of(self, key: str, make: Callable[[], Any] | None = None) -> Any:
        """The module of a weight set; ``make`` builds one that no part of a modality declares."""
        if key not in self._made:
            with forked_rng(self.seed, "weights", key):
                module = make() if make is not None else self._built(key)
            if key in self._homes:
                self._about[key] = load_weights(module, self._homes[key])
                module.eval()
            self._made[key] = self.compute.to_device(module)
        return self._made[key]

    def _built(self, key: str) -> Any:
        weights = self.sets[key]
        return build_part(weights.config, key, weights.owners)

    def trained(self, key: str) -> bool:
        """Whether a finished stage left weights of this set, or one of this process saved them."""
        return key in self._homes or key in self._about

    def about(self, key: str) -> Mapping[str, Any]:
        """What was noted with a weight set when it was saved; empty where it was not. Builds no network."""
        if key not in self._about and key in self._homes:
            self._about[key] = load_about(self._homes[key])
        return self._about.get(key, {})

    def save(self, phase: str, key: str, **about: Any) -> None:
        """Write a trained weight set under its phase."""
        owners = list(self.sets[key].owners) if key in self.sets else []
        self._about[key] = {"weight_set": key, "modalities": owners, **about}
        if self.compute.is_main:
            save_weights(self.of(key), self.folder / phase / key, self._about[key])


def homes_of(progress: Any, folder: Path) -> dict[str, Path]:
    """The folder that holds the weights of each finished weight set of a run; the latest where several trained it.

    ``progress`` is what the run folder's ``progress.json`` holds; `UserError` where it has not that shape.
    """
    try:
        order = sorted(progress["stages"].values(), key=lambda stage: stage["number"])
        return {key: folder / stage["phase"] / key for stage in order for key in stage["weights"]}
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{folder / 'progress.json'}: is damaged (expected 'stages', each with number, phase and weights); restore"
            " it, or train again in another folder"
        ) from None
