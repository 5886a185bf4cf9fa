"""The folder of a run: what it was started with, and which stages are behind it."""

from __future__ import annotations

import json
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.config.run_config import RunConfig, to_toml
from core.config.toml import read_toml
from core.engine.checkpoint import write_json
from core.errors import MedWeaveWarning, UserError
from core.evaluate.table import MetricRow
from core.generate.networks import homes_of
from core.io import atomic_write
from core.io.lock import lock_file

_PACKAGES = ("medweave", "torch", "diffusers", "transformers", "monai", "timm")
_FREE = ("run", "device")  # where a run lies and what it computes on may change
_MOST = 12  # differences shown


class RunFolder:
    """Configuration, versions, plan and ``progress.json``: finished stages, their table lines, where weights lie.

    An existing folder is gone on with when its configuration, and the studies it has seen, are those of this run;
    otherwise `UserError` shows the difference. ``silent``: reads only (all processes but the first).
    """

    def __init__(self, config: RunConfig, data: str, *, silent: bool = False) -> None:
        self.path, self.silent = config.run, silent
        require_agreement(config)
        if not silent and not (self.path / "config.toml").exists():
            _start(self.path, config)
        busy = f"{self.path}: another process trains in this folder; wait for it, or give --run"
        self._lock = None if silent else lock_file(self.path / "config.toml", busy, "rb")
        self._progress = self._read(data)

    def lines(self, stage: str) -> list[MetricRow] | None:
        """The table lines of a finished stage; ``None`` where it is not finished."""
        found = self._progress["stages"].get(stage)
        return None if found is None else [MetricRow(**metric_row) for metric_row in found["lines"]]

    def homes(self) -> Mapping[str, Path]:
        """The folder that holds the weights of each finished weight set; the latest where several stages trained it."""
        return homes_of(self._progress, self.path)

    def finish(self, stage: str, phase: str, weights: Sequence[str], lines: Sequence[MetricRow]) -> None:
        """Note that a stage is done: its weights are saved, its lines measured."""
        stages = self._progress["stages"]
        stages[stage] = {
            "number": len(stages),
            "phase": phase,
            "weights": list(weights),
            "lines": [asdict(metric_row) for metric_row in lines],
        }
        if not self.silent:
            write_json(self.path / "progress.json", self._progress)

    def keep_plan(self, describe: Callable[[], str]) -> None:
        """Leave the plan of the run in ``plan.txt``, once."""
        path = self.path / "plan.txt"
        if not self.silent and not path.exists():
            with atomic_write(path) as reference:
                reference.write_text(describe(), encoding="utf-8")

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _read(self, data: str) -> dict[str, Any]:
        path = self.path / "progress.json"
        if not path.exists():
            return {"data": data, "stages": {}}
        progress = _progress(path)
        if progress["data"] != data:
            raise UserError(
                f"{self.path}: the studies are not those that the run was started with (added, removed, or in another"
                " split); restore them, or name another folder with --run"
            )
        return progress


def _progress(path: Path) -> dict[str, Any]:
    """What ``progress.json`` holds; `UserError` where it is damaged."""
    instead = "restore it, or name another folder with --run"
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: is damaged ({error}); {instead}") from error
    if not isinstance(progress, dict) or not {"data", "stages"} <= progress.keys():
        raise UserError(f"{path}: is damaged (expected 'data' and 'stages'); {instead}")
    return progress


def _start(path: Path, config: RunConfig) -> None:
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "versions.json", _versions())
    with atomic_write(path / "config.toml") as reference:
        reference.write_text(to_toml(config), encoding="utf-8")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def require_agreement(config: RunConfig) -> None:
    """`UserError` that shows where an existing folder's configuration differs; a warning where versions do."""
    path = config.run
    _require_folder(path)
    if not (path / "config.toml").exists():
        return
    stored = dict(_flat(read_toml(path / "config.toml")))
    asked = dict(_flat(config.model_dump(mode="json", exclude_none=True)))
    keys = [key for key in sorted({*stored, *asked}) if key not in _FREE and stored.get(key) != asked.get(key)]
    if keys:
        shown = [f"{key} is {_shown(stored, key)} there, {_shown(asked, key)} here" for key in keys[:_MOST]]
        more = f"; and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
        raise UserError(
            f"{path} holds a run with another configuration: {'; '.join(shown)}{more}. Give the same settings to go on"
            " with it, or name another folder with --run"
        )
    _warn_of_versions(path)


def _require_folder(path: Path) -> None:
    """`UserError` where a run cannot have this folder: it, or one above it, is a file or may not be written."""
    nearest = next((index for index in (path, *path.absolute().parents) if os.path.lexists(index)), path)
    if not nearest.is_dir():
        raise UserError(f"--run {path}: {nearest} is not a folder; name a new folder, or that of an earlier run")
    if not os.access(nearest, os.W_OK):
        raise UserError(f"--run {path}: {nearest} may not be written; name another folder with --run")


def _warn_of_versions(path: Path) -> None:
    stored = json.loads((path / "versions.json").read_text(encoding="utf-8"))
    other = [f"{name} {stored.get(name)}, now {now}" for name, now in _versions().items() if stored.get(name) != now]
    if other:
        message = f"{path} was started with other versions ({'; '.join(other)}): it will not repeat bit for bit"
        warnings.warn(MedWeaveWarning(message), stacklevel=2)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every entry."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(table: Mapping[str, Any], key: str) -> str:
    return json.dumps(table[key]) if key in table else "not set"
