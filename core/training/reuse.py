"""A new run that begins with what an earlier one has trained: ``core.train --reuse RUN``."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.config.preset import Phase
from core.config.run_config import RunConfig
from core.config.toml import dotted_items, read_toml
from core.errors import MedWeaveWarning, UserError
from core.generate.networks import read_progress

PHASES: tuple[Phase, ...] = ("autoencoder", "align")
# What the reused phases do not read may differ, and so may the seed.
_FREE = (
    "run",
    "device",
    "attention",
    "seed",
    "recipe",
    "phases",
    "diffuse",
    "guide",
    "sampler",
    "prompt",
    "flow.guide",
)
_FREE_TRAINING = ("title", "log_every", "save_every", "diffuse", "guide", "joint", "measure")
_MOST = 6  # differences shown


def reused_stages(earlier: Path, config: RunConfig, data: str) -> dict[str, Any]:
    """Return the finished stages of an earlier run that a new one begins with, by title, as in ``progress.json``.

    ``data``: the fingerprint of the new run's studies. The autoencoders have to be trained with the same settings. The
    alignment is taken over where its settings are the same too, and a warning says so where they are not. Raises
    `UserError` where the folder is no run with finished autoencoders, saw other studies, or has other settings.
    """
    progress = read_progress(earlier)
    if progress is None or not (earlier / "config.toml").is_file():
        raise UserError(f"--reuse {earlier}: is no run folder with a finished stage; name that of an earlier run")
    if progress["data"] != data:
        raise UserError(
            f"--reuse {earlier}: that run saw other studies (added, removed, or in another split); reuse a run on the"
            " same data, or leave --reuse out"
        )
    differences = _differences(earlier, config)
    shared = [text for key, text in differences.items() if not _is_of_alignment(key)]
    if shared:
        raise UserError(
            f"--reuse {earlier}: autoencoders were trained with other settings: {'; '.join(shared[:_MOST])}. Give the"
            " same, or leave --reuse out"
        )
    phases = PHASES[:1] if differences else PHASES
    stages = {title: stage for title, stage in progress["stages"].items() if stage["phase"] in phases}
    missing = [phase for phase in phases if phase not in {stage["phase"] for stage in stages.values()}]
    if missing:
        raise UserError(
            f"--reuse {earlier}: that run has not finished phase '{missing[0]}'; resume it: --run {earlier}"
        )
    if differences:
        shown = "; ".join(list(differences.values())[:_MOST])
        warnings.warn(MedWeaveWarning(f"--reuse {earlier}: alignment is trained anew: {shown}"), stacklevel=2)
    return stages


def link_weights(earlier: Path, run: Path, stages: Mapping[str, Any]) -> None:
    """Put the weights of these stages, and the latents, into a new run folder: as links where the disk allows it."""
    folders = [Path(stage["phase"]) / key for stage in stages.values() for key in stage["weights"]]
    for folder in (*folders, Path("latents")):
        if (earlier / folder).is_dir():
            shutil.copytree(earlier / folder, run / folder, copy_function=_linked, dirs_exist_ok=True)


def _linked(source: str, target: str) -> None:
    """Link a file; copy it where that fails. Files of a run are only ever replaced, never written into."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _differences(earlier: Path, config: RunConfig) -> dict[str, str]:
    """Return by key the settings of autoencoders and alignment that differ, each as a phrase."""
    stored = dict(dotted_items(read_toml(earlier / "config.toml")))
    current = dict(dotted_items(config.model_dump(mode="json", exclude_none=True)))
    keys = [key for key in sorted({*stored, *current}) if not _is_free(key) and stored.get(key) != current.get(key)]
    return {key: f"{key} is {stored.get(key)!r} there, {current.get(key)!r} here" for key in keys}


def _is_of_alignment(key: str) -> bool:
    first, _, rest = key.partition(".")
    return (
        first == "align"
        or key in ("flow.main", "flow.align")
        or rest.startswith("prompt")
        or key.startswith("training.align.")
    )


def _is_free(key: str) -> bool:
    first, _, rest = key.partition(".")
    if first == "training":
        return rest.partition(".")[0] in _FREE_TRAINING
    return first in _FREE or key in _FREE or rest.startswith("denoiser")
