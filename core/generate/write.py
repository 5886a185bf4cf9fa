"""Generated studies on disk: a folder each, files with provenance, a manifest and a contact sheet."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from core.engine.progress import progress
from core.errors import UserError, unknown
from core.generate.bundle import Bundle
from core.generate.partners import Couple
from core.generate.sheet import contact_sheet, write_sheet
from core.generate.study import (
    Request,
    decoded,
    generate_latents,
    in_batches,
    require_output,
    restored,
    trained_couples,
)
from core.io import replacing
from core.preprocess.collate import collate, uncollate
from core.recipe import SamplerChoice
from core.types import Batch, Provenance, Sample

SHEET, MANIFEST = "contact_sheet.png", "manifest.csv"
_MOST_SHOWN = 16  # studies on the contact sheet
_PACKAGES = ("medweave", "torch", "diffusers", "monai")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What `write_studies` shall make. ``prompts`` and ``given`` by modality: a path, or for text the text itself."""

    outputs: Sequence[str]
    sampler: SamplerChoice
    prompts: Mapping[str, str]
    given: Mapping[str, str]
    num: int = 4
    seed: int = 0
    batch: int = 16
    couple: Literal["trained", "all", "none"] = "trained"
    keep_prompt: bool = False
    overwrite: bool = False


def write_studies(bundle: Bundle, order: Order, folder: Path) -> None:
    """Generate and write ``num`` studies; nothing is written where a request is wrong."""
    _refuse(bundle, order, folder)
    prompts = {name: _read(bundle, name, value) for name, value in order.prompts.items()}
    given = {name: _read(bundle, name, value) for name, value in order.given.items()}
    couple = _couple(bundle, order)
    shown: list[dict[str, Sample]] = []
    rows = []
    with progress("generate", order.num) as watch:
        for indices in in_batches(order.num, order.batch):
            asked = Request(
                outputs=order.outputs,
                indices=indices,
                seed=order.seed,
                prompts={name: _repeated(batch, len(indices)) for name, batch in prompts.items()},
                given={name: _repeated(batch, len(indices)) for name, batch in given.items()},
                couple=couple,
            )
            latents = generate_latents(bundle, asked, order.sampler)
            batches = {name: decoded(bundle, name, latent) for name, latent in latents.items()}
            samples = {name: restored(bundle, name, batch) for name, batch in batches.items()}
            for row, index in enumerate(indices):
                study = {name: samples[name][row] for name in order.outputs}
                rows.append(_written(bundle, order, folder, index, study))
                if index < _MOST_SHOWN:
                    shown.append(_for_the_eye(batches, study, row))
            watch(indices[-1] + 1)
    _write_manifest(folder / MANIFEST, order.outputs, rows)
    titles = {name: bundle.run.modalities[name].title for name in order.outputs}
    write_sheet(contact_sheet(shown, titles, [f"study {index}" for index in range(len(shown))]), folder / SHEET)


def _refuse(bundle: Bundle, order: Order, folder: Path) -> None:
    """Everything that can be wrong is found before the first step."""
    if not order.outputs:
        raise UserError("nothing is left to generate: every modality of the run is given; name --output")
    for name in order.outputs:
        require_output(bundle, name)
    for name in (*order.prompts, *order.given):
        if name not in bundle.run.flows.union.modalities:
            raise unknown("modality of this run", name, bundle.run.flows.union.modalities)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is a file; name a folder")
    if not order.overwrite and folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--out {folder}: is not empty; name another folder, or add --overwrite")
    for name in order.outputs:
        if bundle.run.parts(name).writer is None:
            raise UserError(f"modality '{name}' has no writer at preset '{bundle.run.config.preset}'; leave it out")


def _couple(bundle: Bundle, order: Order) -> Couple | None:
    if order.couple == "trained":
        return trained_couples(bundle, order.outputs, tuple(order.given))
    return None if order.couple == "all" else {}


def _read(bundle: Bundle, name: str, value: str) -> Batch:
    """A batch of one from a file, or from a text as it stands."""
    parts = bundle.run.parts(name)
    if parts.reader is None or parts.preprocess is None:
        raise UserError(f"modality '{name}' cannot be read at preset '{bundle.run.config.preset}'")
    if parts.data.kind == "tokens" and not _is_file(value):
        sample = Sample(modality=name, data=value)
    else:
        sample = parts.reader.build().read(Path(value))
    return collate([parts.preprocess.build().apply(sample)], parts.data)


def _is_file(value: str) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, ValueError):  # a long text is no path
        return False


def _repeated(batch: Batch, rows: int) -> Batch:
    return batch[torch.zeros(rows, dtype=torch.long)]


def _written(bundle: Bundle, order: Order, folder: Path, index: int, study: Mapping[str, Sample]) -> dict[str, str]:
    """Write one study; returns its row of the manifest."""
    row = {"patient": f"{index:04d}", "study": f"{index:04d}"}
    provenance = _provenance(bundle, order, index)
    place = folder / row["study"]
    place.mkdir(parents=True, exist_ok=True)
    for name, sample in study.items():
        writer: Any = bundle.run.parts(name).writer
        built = writer.build()
        built.write(sample, place / f"{name}{built.suffix}", provenance, overwrite=order.overwrite)
        row[name] = f"{row['study']}/{name}{built.suffix}"
    return row


def _provenance(bundle: Bundle, order: Order, index: int) -> Provenance:
    told = {**order.prompts, **{f"given {name}": value for name, value in order.given.items()}}
    config = bundle.run.config
    return Provenance(
        model=config.run.name,
        recipe=config.recipe,
        prompts={name: _told(value, keep=order.keep_prompt) for name, value in told.items()},
        seed=order.seed,
        index=index,
        versions={name: version(name) for name in _PACKAGES},
    )


def _told(value: str, *, keep: bool) -> str:
    """A prompt that came from a file is kept as its SHA-256, so that no report or picture leaks."""
    if not _is_file(value) or keep:
        return value
    return f"sha256:{hashlib.sha256(Path(value).read_bytes()).hexdigest()}"


def _for_the_eye(batches: Mapping[str, Batch], study: Mapping[str, Sample], row: int) -> dict[str, Sample]:
    """Texts as they read, everything else in canonical form."""
    chosen = torch.tensor([row])
    return {
        name: sample if isinstance(sample.data, str) else uncollate(batches[name][chosen])[0]
        for name, sample in study.items()
    }


def _write_manifest(path: Path, outputs: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, ["patient", "study", *outputs])
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path, overwrite=True) as beside:
        beside.write_text(table.getvalue(), encoding="utf-8")
