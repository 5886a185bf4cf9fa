"""A run folder opened for generation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config.run_config import RunConfig
from core.config.toml import read_toml
from core.contract.modality import Modality
from core.engine.distributed import Compute
from core.engine.networks import Networks, homes_of
from core.errors import UserError, explain
from core.flow.rounds import weight_sets
from core.flow.run import start_run
from core.generate.bundle import Bundle


def open_bundle(
    folder: Path,
    modalities: Mapping[str, Modality],
    broken: Mapping[str, Exception] | None = None,
    device: str = "auto",
) -> Bundle:
    """The networks of the stages that a run folder has finished.

    Raises `UserError` where it is no run folder, nothing in it is finished, or its modalities are not installed.
    """
    config = read_config(folder)
    run = start_run(config, modalities, broken)
    homes = homes_of(_progress(folder), folder)
    sets = weight_sets(run.flows.union.modalities, run.modalities, config.preset)
    return Bundle(run, Networks(sets, homes, folder, config.seed, Compute(device)))


def read_config(folder: Path) -> RunConfig:
    """The configuration that a run folder was started with."""
    path = folder / "config.toml"
    if not path.is_file():
        raise UserError(
            f"{folder}: is no run folder (it has no config.toml); name one with --run, or train one:"
            " python -m core.train --flow ..."
        )
    try:
        config = RunConfig.model_validate(read_toml(path))
    except ValidationError as error:
        raise explain(error, RunConfig, str(path)) from None
    return config.model_copy(update={"run": folder})


def _progress(folder: Path) -> Any:
    path = folder / "progress.json"
    if not path.is_file():
        raise UserError(f"{folder}: no stage of this run is finished yet; go on with it: --run {folder}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: is damaged ({error}); restore it, or train again in another folder") from error
