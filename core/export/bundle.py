"""Export a trained run as a bundle: what generation needs, and nothing that a training study could be read from.

A bundle is a run folder without latents, samples, checkpoints, log and classifiers. It has the weights of the last
stage that trained each network, the configuration, the measured table, and a card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from core.config.run_config import RunConfig, to_toml
from core.config.toml import dotted_items
from core.engine.checkpoint import ABOUT, WEIGHTS, read_digest, read_tensors, write_json, write_tensors
from core.engine.int8 import to_int8
from core.errors import UserError
from core.export.card import DataLicence, card_of, front_matter_and_text
from core.export.monai_form import MODELS, write_monai_form
from core.generate.bundle import BUNDLE, BUNDLE_VERSION, Bundle
from core.generate.networks import homes_of, read_progress
from core.generate.pipeline import require_output
from core.generate.request import weights_name
from core.io import atomic_write
from core.io.provenance import atomic_folder

CARD, CARD_JSON = "README.md", "model_card.json"
Precision = Literal["int8", "float16", "float32"]
Form = Literal["medweave", "monai"]
_LARGEST_HALF = 65504.0
_LEFT_OUT = ("measure",)  # phases whose weights judge and do not generate


@dataclass(frozen=True, kw_only=True)
class Export:
    """How a run is exported. ``name`` is that of the model on its card, ``contact`` whom its users may ask.

    ``form``: a bundle of MedWeave, or one within a bundle of MONAI (`core.export.monai_form`).
    """

    name: str
    licences: tuple[DataLicence, ...]
    precision: Precision = "float16"
    contact: str = ""
    form: Form = "medweave"


def export_bundle(bundle: Bundle, out: Path, export: Export) -> None:
    """Write a run as a bundle into the new folder ``out``, which appears whole or not at all.

    Raises `UserError` where the folder exists, an output of the run is not trained, or the configuration names files
    of this machine, without which the model cannot be built.
    """
    if out.exists():
        raise UserError(f"--out {out}: exists already; name a new folder")
    if bundle.networks.folder.resolve() in out.resolve().parents:
        raise UserError(f"--out {out}: lies in the run itself; name a folder outside of it")
    config = _portable(bundle.run.config, out.name)
    for name in bundle.run.outputs:
        require_output(bundle, name)
    run = bundle.networks.folder
    progress = read_progress(run) or {}
    homes = {key: home for key, home in homes_of(progress, run).items() if home.parent.name not in _LEFT_OUT}
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out, "") as whole:
        unfinished = whole if export.form == "medweave" else whole / MODELS / out.name
        digests = {key: _write_weights(home, unfinished, export.precision) for key, home in homes.items()}
        write_json(unfinished / "progress.json", _progress(progress, homes, digests))
        _write_text(unfinished / "config.toml", to_toml(config))
        about = {
            "bundle": BUNDLE_VERSION,
            "name": export.name,
            "precision": export.precision,
            "weights_of_run": weights_name(bundle),
            "licences": {each.dataset: each.licence for each in export.licences},
        }
        write_json(unfinished / BUNDLE, about)
        card = card_of(bundle, export.name, export.licences, progress, export.contact)
        _write_text(unfinished / CARD_JSON, card.model_dump_json(indent=1) + "\n")
        _write_text(unfinished / CARD, front_matter_and_text(card))
        if export.form == "monai":
            write_monai_form(whole, out.name, bundle.run, card)


def _write_weights(home: Path, out: Path, precision: Precision) -> str:
    """Write a weight set below the new folder and return its digest."""
    tensors, about = read_tensors(home / WEIGHTS)
    folder = out / home.parent.name / home.name
    if precision == "int8":
        tensors = to_int8(tensors)
    write_tensors(folder / WEIGHTS, {name: _stored(value, precision) for name, value in tensors.items()}, about)
    write_json(folder / ABOUT, about)
    return read_digest(folder / WEIGHTS)


def _stored(value: Tensor, precision: Precision) -> Tensor:
    """Return a tensor at the precision of a bundle; one that half precision cannot hold stays as it is."""
    if precision != "float16" or value.dtype != torch.float32 or bool((value.abs() > _LARGEST_HALF).any()):
        return value
    return value.half()


def _progress(progress: Mapping[str, Any], homes: Mapping[str, Path], digests: Mapping[str, str]) -> dict[str, Any]:
    """Return the stages with the weights that the bundle has, and the rows that they measured."""
    stages = {}
    for title, stage in progress["stages"].items():
        held = [key for key in stage["weights"] if key in homes and homes[key].parent.name == stage["phase"]]
        stages[title] = {**stage, "weights": held, "digests": {key: digests[key] for key in held}}
    return {"data": "", "stages": stages}  # nothing that tells of the studies, or of this machine


def _portable(config: RunConfig, name: str) -> RunConfig:
    """Return the configuration without what training alone needs; `UserError` where it names files of this machine."""
    autoencoder = config.autoencoder.model_copy(update={"perceptual_from": None, "perceptual_weight": 0.0})
    portable = config.model_copy(update={"run": Path(name), "device": "auto", "autoencoder": autoencoder})
    named = list(_paths(portable))
    if named:
        raise UserError(
            f"{config.run}: the model is built from files of this machine ({', '.join(named)}); train with a hub id in"
            " their place, or share them apart"
        )
    return portable


def _paths(config: RunConfig) -> Iterator[str]:
    """Yield the settings that are paths on this machine."""
    for key, value in dotted_items(config.model_dump(mode="json", exclude_none=True)):
        if key != "run" and isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~")):
            yield f"{key} = {value}"


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
