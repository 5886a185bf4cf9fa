"""Generated studies on disk: a folder each, files with provenance, a manifest and a contact sheet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from core.config.sampler import SamplerChoice
from core.contract.build import build_part, package_versions
from core.engine.progress import progress
from core.errors import UserError, join_choices, nearest, unknown_name
from core.flow.run import Run
from core.generate.bundle import Bundle
from core.generate.conditioning import (
    ConditioningGraph,
    Coupling,
    conditioning_graph,
    given_key,
    negative_key,
    require_used_conditions,
    require_used_prompts,
    with_guidance,
)
from core.generate.contact_sheet import contact_sheet, write_sheet
from core.generate.inputs import InputBatch, read_input
from core.generate.networks import read_progress, require_recorded_weights
from core.generate.output_folder import SHEET, Command, OutputFolder, open_output
from core.generate.pipeline import (
    BatchRequest,
    decoded,
    encoded_prompt,
    generate_latents,
    in_batches,
    require_output,
    restored,
)
from core.preprocess.collate import uncollate
from core.types import Batch, Provenance, Sample

_MOST_SHOWN = 16  # studies on the contact sheet
_PACKAGES = ("medweave", "torch", "diffusers", "monai")


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What `write_studies` generates. Prompts and ``given`` by modality: a path, or for text the text itself.

    ``negative`` prompts stand for the null prompt; ``prompt_weights`` by modality, 1 where left out (method E4, E6).
    ``format``: that of every output, by the name of an export; ``None``: each modality's default.
    """

    outputs: Sequence[str]
    sampler: SamplerChoice
    prompts: Mapping[str, str]
    given: Mapping[str, str]
    negative: Mapping[str, str] = field(default_factory=dict)
    prompt_weights: Mapping[str, float] = field(default_factory=dict)
    num: int = 4
    seed: int = 0
    batch: int = 16
    coupling: Coupling = "auto"
    keep_prompt: bool = False
    overwrite: bool = False
    format: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ResolvedRequest:
    """A request whose files were read and whose names were checked.

    ``graph`` says which input reaches which output; ``inputs`` by output what it depends on, named as in provenance.
    """

    bundle: Bundle
    request: GenerationRequest
    prompts: Mapping[str, InputBatch]
    negative: Mapping[str, InputBatch]
    given: Mapping[str, InputBatch]
    graph: ConditioningGraph
    inputs: Mapping[str, Collection[str]]
    writers: Mapping[str, Any]
    weights: str


def write_studies(bundle: Bundle, request: GenerationRequest, folder: Path) -> None:
    """Generate and write ``num`` studies; nothing is written where the request is wrong.

    Studies that the same request has written to the folder before stay, and those that are missing are generated.
    """
    resolved = resolve_request(bundle, request)
    command = _command(resolved)
    with open_output(folder, command, overwrite=request.overwrite) as output:
        if output.finished():
            return
        shown = _write_missing(resolved, output)
        output.write_manifest()
        titles = {name: bundle.run.modalities[name].title for name in request.outputs}
        rows = [f"study {index}" for index in range(len(shown))]
        write_sheet(contact_sheet(shown, titles, rows), folder / SHEET, command=json.dumps(command.settings))


def resolve_request(bundle: Bundle, request: GenerationRequest) -> ResolvedRequest:
    """Read the inputs of a request and decide what reaches which output.

    Raises `UserError` for whatever is wrong with it, before the first step.
    """
    _require_modalities(bundle, request)
    prompts, negative, given = (
        {name: read_input(bundle, flag, name, value, keep=request.keep_prompt) for name, value in values.items()}
        for flag, values in _inputs_by_flag(request).items()
    )
    with torch.no_grad():
        for name, prompt in (*prompts.items(), *negative.items()):
            encoded_prompt(bundle, name, prompt.batch)  # raises where this modality, or this prompt, cannot be one
    graph = conditioning_graph(
        bundle,
        request.outputs,
        prompts=tuple(prompts),
        negative=tuple(negative),
        given={name: condition.geometry for name, condition in given.items()},
        coupling=request.coupling,
        first=request.sampler.first,
    )
    require_used_prompts(bundle, graph, prompts)
    require_used_prompts(bundle, graph, negative, "negative-prompt")
    require_used_conditions(bundle, graph, given, request.coupling)
    return ResolvedRequest(
        bundle=bundle,
        request=request,
        prompts=prompts,
        negative=negative,
        given=given,
        graph=(acting := with_guidance(graph, request.sampler)),
        inputs=acting.inputs(),
        writers=writers_of(bundle.run, request.outputs, request.format),
        weights=_weights(bundle),
    )


def writers_of(run: Run, outputs: Sequence[str], format: str | None) -> dict[str, Any]:
    """Return a writer per output; `UserError` names an unknown format, and the outputs that cannot be written."""
    if format is None:
        return {name: _default_writer(run, name) for name in outputs}
    exports = {name: run.parts(name).exports for name in outputs}
    known = {name for formats in exports.values() for name in formats}
    if format not in known:
        raise UserError(
            f"--format {format}: no output has this format (they have: {join_choices(known)}){nearest(format, known)};"
            " leave --format out for each modality's own"
        )
    lacking = [name for name, formats in exports.items() if format not in formats]
    if lacking:
        raise UserError(
            f"--format {format}: {', '.join(lacking)} cannot be written so (can: "
            f"{join_choices(name for name in outputs if name not in lacking)}); name the others with --output"
        )
    return {name: build_part(formats[format], f"{name}.exports.{format}") for name, formats in exports.items()}


def in_order(writers: Mapping[str, Any]) -> list[str]:
    """Return the outputs in the order of writing: one that refers to another file of its study is written after it."""
    return sorted(writers, key=lambda name: getattr(writers[name], "refers_to", None) is not None)


def _default_writer(run: Run, name: str) -> Any:
    writer = run.parts(name).writer
    if writer is None:
        raise UserError(f"modality '{name}' has no writer at preset '{run.config.preset}'; leave it out")
    return build_part(writer, f"{name}.writer")


def _require_modalities(bundle: Bundle, request: GenerationRequest) -> None:
    if not request.outputs:
        raise UserError("nothing is left to generate: every modality of the run is given; name --output")
    for name in request.outputs:
        require_output(bundle, name)
        if name in request.given:
            raise UserError(f"'{name}' is both given and to be generated; leave it out of --condition or of --output")
    for name in (*request.prompts, *request.negative, *request.given):
        if name not in bundle.run.flows.union.modalities:
            raise unknown_name("modality of this run", name, bundle.run.flows.union.modalities)


def _inputs_by_flag(request: GenerationRequest) -> dict[str, Mapping[str, str]]:
    return {"--prompt": request.prompts, "--negative-prompt": request.negative, "--condition": request.given}


def _write_missing(resolved: ResolvedRequest, output: OutputFolder) -> list[dict[str, Sample]]:
    """Generate the missing studies, in the batches of an undisturbed run; return what the contact sheet shows."""
    shown: list[dict[str, Sample]] = []
    with progress("generate", resolved.request.num) as watch:
        for indices in in_batches(resolved.request.num, resolved.request.batch):
            missing = [index for index in indices if not output.has(index)]
            if missing or indices[0] < _MOST_SHOWN:
                batches = _generate(resolved, indices)
                for row, index in enumerate(indices):
                    if index not in missing and index >= _MOST_SHOWN:
                        continue
                    study = _study(resolved, batches, row)  # one at a time: a given volume may have a fine grid
                    if index in missing:
                        output.add(index, partial(_write, resolved, index, study))
                    if index < _MOST_SHOWN:
                        shown.append(_sheet_row(batches, study, row))
            watch(indices[-1] + 1)
    return shown


def _generate(resolved: ResolvedRequest, indices: Sequence[int]) -> dict[str, Batch]:
    """Return the canonical batches of the studies with these numbers."""
    bundle, request, rows = resolved.bundle, resolved.request, len(indices)
    batch_request = BatchRequest(
        graph=resolved.graph,
        indices=indices,
        seed=request.seed,
        prompts={name: _repeated(prompt.batch, rows) for name, prompt in resolved.prompts.items()},
        negative={name: _repeated(prompt.batch, rows) for name, prompt in resolved.negative.items()},
        prompt_weights=request.prompt_weights,
        given={name: _repeated(condition.batch, rows) for name, condition in resolved.given.items()},
    )
    latents = generate_latents(bundle, batch_request, request.sampler)
    return {name: decoded(bundle, name, latent) for name, latent in latents.items()}


def _repeated(batch: Batch, rows: int) -> Batch:
    return batch[torch.zeros(rows, dtype=torch.long)]


def _study(resolved: ResolvedRequest, batches: Mapping[str, Batch], row: int) -> dict[str, Sample]:
    """Return one row of every batch in original units."""
    geometries = [condition.geometry for condition in resolved.given.values()]
    names = resolved.request.outputs
    return {name: restored(resolved.bundle, name, batches[name][[row]], geometries)[0] for name in names}


def _sheet_row(batches: Mapping[str, Batch], study: Mapping[str, Sample], row: int) -> dict[str, Sample]:
    """Return a study as the contact sheet shows it: text in original units, all else in canonical form."""
    chosen = torch.tensor([row])
    return {
        name: sample if isinstance(sample.data, str) else uncollate(batches[name][chosen])[0]
        for name, sample in study.items()
    }


def _write(resolved: ResolvedRequest, index: int, study: Mapping[str, Sample], folder: Path) -> None:
    """Write the files of one study; each names the inputs that it depends on."""
    for name in in_order(resolved.writers):
        writer = resolved.writers[name]
        inputs = {key: batch for key, batch in _inputs(resolved).items() if key in resolved.inputs[name]}
        writer.write(study[name], folder / f"{name}{writer.suffix}", _provenance(resolved, index, inputs))


def _command(resolved: ResolvedRequest) -> Command:
    """Return all that the bytes of the studies depend on."""
    bundle, request = resolved.bundle, resolved.request
    settings = _provenance(resolved, 0, _inputs(resolved)).model_dump(mode="json", exclude={"index"})
    settings |= {"batch": request.batch, "device": str(bundle.networks.compute.device), "format": request.format}
    files = {name: f"{name}{writer.suffix}" for name, writer in resolved.writers.items()}
    return Command(request.num, files, settings)


def _inputs(resolved: ResolvedRequest) -> dict[str, InputBatch]:
    """Return all prompts and given modalities, named as in provenance."""
    negative = {negative_key(name): prompt for name, prompt in resolved.negative.items()}
    given = {given_key(name): condition for name, condition in resolved.given.items()}
    return {**resolved.prompts, **negative, **given}


def _provenance(resolved: ResolvedRequest, index: int, inputs: Mapping[str, InputBatch]) -> Provenance:
    """Return how a file was generated; ``inputs``: what its output depends on."""
    request, config = resolved.request, resolved.bundle.run.config
    settings = {**request.sampler.model_dump(), "coupling": request.coupling, "prompt_weights": request.prompt_weights}
    return Provenance(
        model=config.run.resolve().name,
        recipe=config.recipe,
        prompts={name: batch.shown for name, batch in inputs.items()},
        seed=request.seed,
        index=index,
        sampling={key: _shown(value) for key, value in settings.items()},
        versions={
            **package_versions(_PACKAGES),
            "weights": resolved.weights,
            "order": _inputs_digest(resolved),
        },
    )


def _shown(value: object) -> str:
    """Return a setting as provenance shows it; a table as ``ct=2.0,mri=4.0``, and "none" for one that is empty."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={number}" for name, number in sorted(value.items())) or "none"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _inputs_digest(resolved: ResolvedRequest) -> str:
    """Return a name for all inputs: the files of a study share it, whichever inputs each of them depends on."""
    shown = json.dumps({name: batch.shown for name, batch in _inputs(resolved).items()}, sort_keys=True)
    return f"sha256:{hashlib.sha256(shown.encode()).hexdigest()}"


def _weights(bundle: Bundle) -> str:
    """Return a name for the weights of the run and what they are used with; training that continues changes it."""
    config, folder = bundle.run.config, bundle.networks.folder
    digests = require_recorded_weights(read_progress(folder), folder)
    settings = config.model_dump(mode="json", exclude={"run", "device", "attention"})
    state = json.dumps([settings, digests], sort_keys=True)
    return f"sha256:{hashlib.sha256(state.encode()).hexdigest()}"
