"""The folder of a run: what it was started with, and which stages are finished."""

from __future__ import annotations

import json
import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.config.run_config import RunConfig, to_toml
from core.config.toml import dotted_items, read_toml
from core.contract.build import package_versions
from core.engine.checkpoint import WEIGHTS, read_digest, write_json
from core.errors import MedWeaveWarning, UserError
from core.evaluate.table import MetricRow
from core.generate.networks import homes_of, read_progress
from core.io import atomic_write
from core.io.lock import lock_file
from core.training.reuse import Reuse

_PACKAGES = ("medweave", "torch", "diffusers", "transformers", "monai", "timm")
_FREE = ("run", "device", "attention")  # where a run lies and what it computes with may change
_MOST = 12  # differences shown


class RunFolder:
    """Configuration, versions, plan and ``progress.json``: finished stages, their table rows, where weights lie.

    An existing folder is resumed when its configuration, and the studies it has seen, are those of this run; otherwise
    `UserError` shows the difference. With ``silent`` it is only read (all processes but the first). ``studies``: see
    `Cohort.identity`; ``files``: a fingerprint of the training files of each modality. A new folder begins with what is
    reused (`Reuse`).
    """

    def __init__(
        self,
        config: RunConfig,
        data: str,
        studies: str = "",
        files: Mapping[str, str] | None = None,
        *,
        silent: bool = False,
        reuse: Reuse | None = None,
    ) -> None:
        self.path, self.silent = config.run, silent
        require_same_configuration(config)
        if not silent and not (self.path / "config.toml").exists():
            if reuse is not None:
                _ = reuse.stages  # refused before anything is written
            _start(self.path, config)
        taken = f"{self.path}: another process trains in this folder; wait for it, or give --run"
        self._lock = None if silent else lock_file(self.path / "config.toml", taken, "rb")
        self._progress = self._read(data, studies, files or {})
        if not silent and reuse is not None:
            self._begin_with(reuse)

    def rows(self, stage: str) -> list[MetricRow] | None:
        """Return the table rows of a finished stage; `None` where it is not finished."""
        finished = self._progress["stages"].get(stage)
        try:
            return None if finished is None else [MetricRow(**row) for row in finished["lines"]]
        except TypeError:
            raise UserError(
                f"{self.path}: was written by another version of MedWeave; finish it with that version, or name another"
                " folder with --run"
            ) from None

    def homes(self) -> Mapping[str, Path]:
        """Return the folder with the weights of each finished weight set, of the last stage that trained it."""
        return homes_of(self._progress, self.path)

    def finish(self, stage: str, phase: str, weights: Sequence[str], rows: Sequence[MetricRow]) -> None:
        """Record that a stage is finished: its weights are saved, its rows measured."""
        stages = self._progress["stages"]
        stages[stage] = {
            "number": len(stages),
            "phase": phase,
            "weights": list(weights),
            "digests": {key: read_digest(self.path / phase / key / WEIGHTS) for key in weights},
            "lines": [asdict(row) for row in rows],
        }
        if not self.silent:
            write_json(self.path / "progress.json", self._progress)

    def write_plan(self, describe: Callable[[], str]) -> None:
        """Write the plan of the run to ``plan.txt``, once."""
        path = self.path / "plan.txt"
        if not self.silent and not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_text(describe(), encoding="utf-8")

    def close(self) -> None:
        """Release the folder for other processes."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _begin_with(self, reuse: Reuse) -> None:
        """Take over the stages of an earlier run, unless this one has begun with them already."""
        if self._progress["stages"]:
            if self._progress.get("reused") != reuse.origin:
                raise UserError(
                    f"{self.path}: this run was not begun with --reuse {reuse.earlier}; leave it out to resume the run,"
                    " or name another folder with --run"
                )
            return
        reuse.link(self.path)
        self._progress |= {"reused": reuse.origin, "stages": reuse.stages}
        write_json(self.path / "progress.json", self._progress)

    def _read(self, data: str, studies: str, files: Mapping[str, str]) -> dict[str, Any]:
        progress = read_progress(self.path)
        if progress is None:
            return {"data": data, "studies": studies, "files": dict(files), "stages": {}}
        if progress["data"] != data:
            raise UserError(
                f"{self.path}: the studies are not those that the run was started with (added, removed, or in another"
                " split); restore them, or name another folder with --run"
            )
        recorded = progress.get("files", {})
        changed = [name for name, digest in files.items() if recorded.get(name, digest) != digest]
        if changed:
            raise UserError(
                f"{self.path}: the files of {', '.join(changed)} have changed since the run was started; its weights"
                " do not fit them; restore them, or name another folder with --run"
            )
        return progress


def _start(path: Path, config: RunConfig) -> None:
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "versions.json", _versions())
    with atomic_write(path / "config.toml") as temporary:
        temporary.write_text(to_toml(config), encoding="utf-8")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **package_versions(_PACKAGES)}


def require_same_configuration(config: RunConfig) -> None:
    """Raise `UserError` that shows where an existing folder's configuration differs; warn where versions do."""
    path = config.run
    _require_folder(path)
    if not (path / "config.toml").exists():
        return
    stored = dict(dotted_items(read_toml(path / "config.toml")))
    current = dict(dotted_items(config.model_dump(mode="json", exclude_none=True)))
    keys = [key for key in sorted({*stored, *current}) if key not in _FREE and stored.get(key) != current.get(key)]
    if keys:
        shown = [f"{key} is {_shown(stored, key)} there, {_shown(current, key)} here" for key in keys[:_MOST]]
        more = f"; and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
        raise UserError(
            f"{path} holds a run with another configuration: {'; '.join(shown)}{more}. Give the same settings to resume"
            " it, or name another folder with --run"
        )
    _warn_of_versions(path)


def _require_folder(path: Path) -> None:
    """Raise `UserError` where the path, or one above it, is a file or not writable."""
    nearest = next((parent for parent in (path, *path.absolute().parents) if os.path.lexists(parent)), path)
    if not nearest.is_dir():
        raise UserError(f"--run {path}: {nearest} is not a folder; name a new folder, or that of an earlier run")
    if not os.access(nearest, os.W_OK):
        raise UserError(f"--run {path}: {nearest} may not be written; name another folder with --run")


def _warn_of_versions(path: Path) -> None:
    try:
        stored = json.loads((path / "versions.json").read_text(encoding="utf-8"))
        known = isinstance(stored, dict)
    except (OSError, ValueError, RecursionError):
        known, stored = False, {}
    if not known:
        message = f"{path / 'versions.json'}: cannot be read; whether the run repeats bit for bit is not known"
        warnings.warn(MedWeaveWarning(message), stacklevel=2)
        return
    other = [f"{name} {stored.get(name)}, now {now}" for name, now in _versions().items() if stored.get(name) != now]
    if other:
        message = f"{path} was started with other versions ({'; '.join(other)}): it will not repeat bit for bit"
        warnings.warn(MedWeaveWarning(message), stacklevel=2)


def _shown(table: Mapping[str, Any], key: str) -> str:
    return json.dumps(table[key]) if key in table else "not set"
