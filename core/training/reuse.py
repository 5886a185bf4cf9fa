"""A new run that begins with what an earlier one has trained: ``core.train --reuse RUN``."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from core.config.preset import Phase
from core.config.run_config import RunConfig
from core.config.toml import dotted_items, read_toml
from core.engine.checkpoint import WEIGHTS, load_about
from core.errors import MedWeaveWarning, UserError
from core.generate.networks import homes_of, read_progress

PHASES: tuple[Phase, ...] = ("autoencoder", "align")
# What neither phase reads may differ, and so may the seed.
_FREE = ("run", "device", "attention", "seed", "recipe", "phases", "diffuse", "guide", "sampler", "prompt")
_FREE_TRAINING = ("title", "log_every", "save_every", "diffuse", "guide", "joint", "measure")
_FREE_PARTS = ("denoiser", "writer", "exports", "metrics")
_OF_ALIGNMENT = ("flow.main", "flow.align", "data.pools")
_MOST = 6  # differences shown


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """The autoencoders and the alignment of the run in ``earlier``, for a new run with ``config``.

    ``studies``: the digest of the new run's studies (`Cohort.identity`). ``owners``: the modalities of every weight set
    of the new run.
    """

    earlier: Path
    config: RunConfig
    studies: str
    owners: Mapping[str, Sequence[str]]

    @cached_property
    def origin(self) -> str:
        """Return what the new run records of it."""
        return str(self.earlier.resolve())

    @cached_property
    def stages(self) -> dict[str, Any]:
        """Return the finished stages that the new run begins with, by title, as in ``progress.json``.

        The autoencoders have to be trained with the same settings on the same studies. The alignment is taken over
        where its settings are the same too; where they are not, a warning says so. Raises `UserError` where the folder
        is no run, has not finished these phases, or has other settings, studies or modalities, or lacks weights.
        """
        if self.earlier.resolve() == self.config.run.resolve():
            raise UserError(f"--reuse {self.earlier}: is the new run itself; name another folder with --run")
        progress = read_progress(self.earlier)
        if progress is None or not (self.earlier / "config.toml").is_file():
            raise UserError(f"--reuse {self.earlier}: is no run folder with a finished stage; name another")
        if progress.get("studies") != self.studies:
            raise UserError(
                f"--reuse {self.earlier}: that run saw other studies (added, removed, or in another split); reuse a run"
                " on the same data, or leave --reuse out"
            )
        differences = self._differences()
        self._refuse_other_autoencoders(differences)
        phases = PHASES[:1] if differences else PHASES
        stages = self._finished(progress, phases)
        self._require_weights(stages)
        if differences:
            shown = "; ".join(list(differences.values())[:_MOST])
            message = f"--reuse {self.earlier}: alignment is trained anew: {shown}"
            warnings.warn(MedWeaveWarning(message), stacklevel=2)
        return stages

    def link(self, run: Path) -> None:
        """Put the weights and the latents into the new run folder: as links where the disk allows it.

        Files of a run are only ever replaced, never written into, so that two runs can share them.
        """
        folders = [Path(stage["phase"]) / key for stage in self.stages.values() for key in stage["weights"]]
        for folder in (*folders, Path("latents")):
            if (self.earlier / folder).is_dir():
                shutil.copytree(self.earlier / folder, run / folder, copy_function=_linked, dirs_exist_ok=True)

    def _differences(self) -> dict[str, str]:
        """Return by key the settings of autoencoders and alignment that differ, each as a phrase."""
        stored = dict(dotted_items(read_toml(self.earlier / "config.toml")))
        current = dict(dotted_items(self.config.model_dump(mode="json", exclude_none=True)))
        keys = [key for key in sorted({*stored, *current}) if not _is_free(key) and stored.get(key) != current.get(key)]
        return {key: f"{key} is {stored.get(key)!r} there, {current.get(key)!r} here" for key in keys}

    def _refuse_other_autoencoders(self, differences: Mapping[str, str]) -> None:
        shared = [text for key, text in differences.items() if not _is_of_alignment(key)]
        if shared:
            raise UserError(
                f"--reuse {self.earlier}: autoencoders were trained with other settings: {'; '.join(shared[:_MOST])}."
                " Give the same, or leave --reuse out"
            )

    def _finished(self, progress: Mapping[str, Any], phases: Sequence[Phase]) -> dict[str, Any]:
        """Return the finished stages of these phases whose weights the new run has too."""
        homes_of(progress, self.earlier)  # refuses a damaged file
        finished = {title: stage for title, stage in progress["stages"].items() if stage["phase"] in phases}
        missing = [phase for phase in phases if phase not in {stage["phase"] for stage in finished.values()}]
        if missing:
            raise UserError(
                f"--reuse {self.earlier}: that run has not finished phase '{missing[0]}'; resume it first: --run"
                f" {self.earlier}"
            )
        return {title: stage for title, stage in finished.items() if set(stage["weights"]) <= self.owners.keys()}

    def _require_weights(self, stages: Mapping[str, Any]) -> None:
        """Raise `UserError` where weights are gone, or were trained without a modality of the new run."""
        for key, home in homes_of({"stages": stages}, self.earlier).items():
            if not (home / WEIGHTS).is_file():
                raise UserError(f"--reuse {self.earlier}: {home / WEIGHTS} is missing; restore it or name another run")
            about = load_about(home)
            trained = about.get("latents", about.get("modalities", ()))
            if unseen := [name for name in self.owners[key] if name not in trained]:
                raise UserError(
                    f"--reuse {self.earlier}: '{key}' of that run was trained without {unseen[0]}; reuse a run that has"
                    " it, or leave --reuse out"
                )


def _linked(source: str, target: str) -> None:
    """Link a file, in place of one that an interrupted attempt left; copy it where that fails."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _is_of_alignment(key: str) -> bool:
    first = key.partition(".")[0]
    if first == "parts":
        return _part_of(key) in ("prompt", "augment")
    return first == "align" or key in _OF_ALIGNMENT or key.startswith("training.align.")


def _is_free(key: str) -> bool:
    first, _, rest = key.partition(".")
    if first == "training":
        return rest.partition(".")[0] in _FREE_TRAINING
    if first == "parts":
        return _part_of(key) in _FREE_PARTS or ".autoencoder.decoding" in key
    return first in _FREE or key == "flow.guide"


def _part_of(key: str) -> str:
    """Return the part in a key ``parts.MODALITY.PART.field``."""
    return (*key.split("."), "", "")[2]
