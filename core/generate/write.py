"""Generated studies on disk: a folder each, files with provenance, a manifest and a contact sheet.

The writers of the outputs: each modality's own, or all of one format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from core.config.recipe import SamplerChoice
from core.contract.build import build_part
from core.engine.progress import progress
from core.errors import UserError, join_choices, nearest, unknown_name
from core.flow.run import Run
from core.generate.bundle import Bundle
from core.generate.contact_sheet import contact_sheet, write_sheet
from core.generate.coupling import Couple
from core.generate.inputs import (
    Told,
    partners_of,
    prompts_heard_by,
    read_told,
    refuse_unheard_given,
    refuse_unheard_prompts,
)
from core.generate.output_folder import SHEET, Command, Place, opened
from core.generate.pipeline import (
    Request,
    decoded,
    encoded_prompt,
    generate_latents,
    given_grid,
    helpful_couples,
    in_batches,
    require_output,
    restored,
    trained_couples,
)
from core.preprocess.collate import uncollate
from core.types import Batch, Prompt, Provenance, Sample


def writers_of(run: Run, outputs: Sequence[str], format: str | None) -> dict[str, Any]:
    """A writer per output; `UserError` names an unknown format, and the outputs that cannot be written."""
    if format is None:
        return {name: _own(run, name) for name in outputs}
    exports = {name: run.parts(name).exports for name in outputs}
    known = {one for formats in exports.values() for one in formats}
    if format not in known:
        raise UserError(
            f"--format {format}: no output has this format (they have: {join_choices(known)}){nearest(format, known)}; leave"
            " --format out for each modality's own"
        )
    lacking = [name for name, formats in exports.items() if format not in formats]
    if lacking:
        raise UserError(
            f"--format {format}: {', '.join(lacking)} cannot be written so (can: "
            f"{join_choices(name for name in outputs if name not in lacking)}); name the others with --output"
        )
    return {name: build_part(formats[format], f"{name}.exports.{format}") for name, formats in exports.items()}


def in_order(writers: Mapping[str, Any]) -> list[str]:
    """The outputs as they are written: one that refers to another file of its study (``refers_to``) comes after it."""
    return sorted(writers, key=lambda name: getattr(writers[name], "refers_to", None) is not None)


def _own(run: Run, name: str) -> Any:
    writer = run.parts(name).writer
    if writer is None:
        raise UserError(f"modality '{name}' has no writer at preset '{run.config.preset}'; leave it out")
    return build_part(writer, f"{name}.writer")


_MOST_SHOWN = 16  # studies on the contact sheet
_PACKAGES = ("medweave", "torch", "diffusers", "monai")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What `write_studies` shall make. ``prompts`` and ``given`` by modality: a path, or for text the text itself.

    ``format``: that of every output, by the name of an export; ``None``: each modality's own.
    """

    outputs: Sequence[str]
    sampler: SamplerChoice
    prompts: Mapping[str, str]
    given: Mapping[str, str]
    num: int = 4
    seed: int = 0
    batch: int = 16
    couple: Literal["helpful", "trained", "all", "none"] = "helpful"
    keep_prompt: bool = False
    overwrite: bool = False
    format: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """An order whose files were read and whose names were found to be right.

    ``heard``: by output, which of the prompts and given parts it depends on, named as in provenance.
    """

    bundle: Bundle
    order: Order
    prompts: Mapping[str, Told]
    given: Mapping[str, Told]
    couple: Couple | None
    heard: Mapping[str, Collection[str]]
    writers: Mapping[str, Any]
    weights: str


def write_studies(bundle: Bundle, order: Order, folder: Path) -> None:
    """Generate and write ``num`` studies; nothing is written where a request is wrong.

    Studies that the same order has written to the folder before are kept, and those that are missing are made.
    """
    job = _job(bundle, order)
    command = _command(job)
    with opened(folder, command, overwrite=order.overwrite) as place:
        if place.finished():
            return
        shown = _write_missing(job, place)
        place.write_manifest()
        titles = {name: bundle.run.modalities[name].title for name in order.outputs}
        rows = [f"study {index}" for index in range(len(shown))]
        write_sheet(contact_sheet(shown, titles, rows), folder / SHEET, made=json.dumps(command.settings))


def _job(bundle: Bundle, order: Order) -> _Job:
    """Everything that can be wrong is found before the first step."""
    _refuse(bundle, order)
    keep = order.keep_prompt
    prompts = {name: read_told(bundle, "--prompt", name, value, keep=keep) for name, value in order.prompts.items()}
    given = {name: read_told(bundle, "--given", name, value, keep=keep) for name, value in order.given.items()}
    couple = _couple(bundle, order)
    with torch.no_grad():
        encoded = {name: encoded_prompt(bundle, name, told.batch) for name, told in prompts.items()}
    refuse_unheard_prompts(bundle, order.outputs, encoded)
    refuse_unheard_given(bundle, order.outputs, tuple(given), couple, order.couple)
    return _Job(
        bundle=bundle,
        order=order,
        prompts=prompts,
        given=given,
        couple=couple,
        heard=_heard(bundle, order.outputs, encoded, given, couple),
        writers=writers_of(bundle.run, order.outputs, order.format),
        weights=_weights(bundle),
    )


def _refuse(bundle: Bundle, order: Order) -> None:
    if not order.outputs:
        raise UserError("nothing is left to generate: every modality of the run is given; name --output")
    for name in order.outputs:
        require_output(bundle, name)
        if name in order.given:
            raise UserError(f"'{name}' is both given and to be generated; leave it out of --given or of --output")
    for name in (*order.prompts, *order.given):
        if name not in bundle.run.flows.union.modalities:
            raise unknown_name("modality of this run", name, bundle.run.flows.union.modalities)


def _couple(bundle: Bundle, order: Order) -> Couple | None:
    if order.couple in ("all", "none"):
        return None if order.couple == "all" else {}
    couples = helpful_couples if order.couple == "helpful" else trained_couples
    return couples(bundle, order.outputs, tuple(order.given))


def _heard(
    bundle: Bundle,
    outputs: Sequence[str],
    prompts: Mapping[str, Prompt],
    given: Mapping[str, Told],
    couple: Couple | None,
) -> dict[str, set[str]]:
    """By output, what it depends on: what it hears, whose grid it takes, and what its partners heard."""
    partners = {name: partners_of(bundle, name, {*outputs, *given}, couple) for name in outputs}
    heard = {
        name: prompts_heard_by(bundle, name, prompts)
        | {_as_given(one) for one in given if one in partners[name] or one == _grid_from(bundle, name, given)}
        for name in outputs
    }
    for _ in outputs:  # as far as a chain of partners can reach
        for name in outputs:
            heard[name] = heard[name].union(*(heard[one] for one in partners[name] if one in heard))
    return heard


def _grid_from(bundle: Bundle, output: str, given: Mapping[str, Told]) -> str | None:
    """The given image whose grid an output takes."""
    own = bundle.run.parts(output).data.default_geometry
    return next((name for name, told in given.items() if given_grid(own, [told.geometry]) is not None), None)


def _as_given(name: str) -> str:
    """How provenance names a given part, which may be a prompt too."""
    return f"given {name}"


def _command(job: _Job) -> Command:
    """What the bytes of the studies depend on."""
    bundle, order = job.bundle, job.order
    settings = _provenance(job, 0, _told(job)).model_dump(mode="json", exclude={"index"})
    settings |= {"batch": order.batch, "device": str(bundle.networks.compute.device), "format": order.format}
    files = {name: f"{name}{writer.suffix}" for name, writer in job.writers.items()}
    return Command(order.num, files, settings)


def _weights(bundle: Bundle) -> str:
    """A name for what the run has learned so far: training that goes on makes another."""
    config = bundle.run.config
    progress = json.loads((bundle.networks.folder / "progress.json").read_text(encoding="utf-8"))
    told = json.dumps([config.model_dump(mode="json", exclude={"run", "device"}), progress], sort_keys=True)
    return f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"


def _write_missing(job: _Job, place: Place) -> list[dict[str, Sample]]:
    """Make the studies that are not there, in the batches of an undisturbed run; returns what the sheet shows."""
    shown: list[dict[str, Sample]] = []
    with progress("generate", job.order.num) as watch:
        for indices in in_batches(job.order.num, job.order.batch):
            missing = [index for index in indices if not place.has(index)]
            if missing or indices[0] < _MOST_SHOWN:
                batches = _made(job, indices)
                for row, index in enumerate(indices):
                    if index not in missing and index >= _MOST_SHOWN:
                        continue
                    study = _study(job, batches, row)  # one at a time: a given volume may have a fine grid
                    if index in missing:
                        place.add(index, partial(_write, job, index, study))
                    if index < _MOST_SHOWN:
                        shown.append(_for_the_eye(batches, study, row))
            watch(indices[-1] + 1)
    return shown


def _made(job: _Job, indices: Sequence[int]) -> dict[str, Batch]:
    """Canonical batches."""
    bundle, order, rows = job.bundle, job.order, len(indices)
    asked = Request(
        outputs=order.outputs,
        indices=indices,
        seed=order.seed,
        prompts={name: _repeated(told.batch, rows) for name, told in job.prompts.items()},
        given={name: _repeated(told.batch, rows) for name, told in job.given.items()},
        couple=job.couple,
    )
    latents = generate_latents(bundle, asked, order.sampler)
    return {name: decoded(bundle, name, latent) for name, latent in latents.items()}


def _study(job: _Job, batches: Mapping[str, Batch], row: int) -> dict[str, Sample]:
    """A row of every batch in original units."""
    given = [told.geometry for told in job.given.values()]
    return {name: restored(job.bundle, name, batches[name][[row]], given)[0] for name in job.order.outputs}


def _repeated(batch: Batch, rows: int) -> Batch:
    return batch[torch.zeros(rows, dtype=torch.long)]


def _write(job: _Job, index: int, study: Mapping[str, Sample], place: Path) -> None:
    """Write the files of one study."""
    for name in in_order(job.writers):
        writer = job.writers[name]
        heard = {key: told for key, told in _told(job).items() if key in job.heard[name]}
        writer.write(study[name], place / f"{name}{writer.suffix}", _provenance(job, index, heard))


def _told(job: _Job) -> dict[str, Told]:
    """All prompts and given parts, named as in provenance."""
    return {**job.prompts, **{_as_given(name): one for name, one in job.given.items()}}


def _provenance(job: _Job, index: int, told: Mapping[str, Told]) -> Provenance:
    """How a file was made; ``told``: what its output depends on."""
    order, config = job.order, job.bundle.run.config
    return Provenance(
        model=config.run.resolve().name,
        recipe=config.recipe,
        prompts={name: one.shown for name, one in told.items()},
        seed=order.seed,
        index=index,
        sampling={**{key: str(value) for key, value in order.sampler.model_dump().items()}, "couple": order.couple},
        versions={**{name: version(name) for name in _PACKAGES}, "weights": job.weights, "order": _order(job)},
    )


def _order(job: _Job) -> str:
    """A name for all prompts and given parts: the files of a study share it, whatever each of them heard."""
    shown = json.dumps({name: one.shown for name, one in _told(job).items()}, sort_keys=True)
    return f"sha256:{hashlib.sha256(shown.encode()).hexdigest()}"


def _for_the_eye(batches: Mapping[str, Batch], study: Mapping[str, Sample], row: int) -> dict[str, Sample]:
    """Texts as they read, everything else in canonical form."""
    chosen = torch.tensor([row])
    return {
        name: sample if isinstance(sample.data, str) else uncollate(batches[name][chosen])[0]
        for name, sample in study.items()
    }
