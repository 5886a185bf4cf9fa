"""A request to generate studies: its inputs are read, its names are checked, and it says where each study came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from core.config.sampler import SamplerChoice
from core.contract.build import package_versions
from core.errors import UserError, unknown_name
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
from core.generate.inputs import InputBatch, InputValue, read_input
from core.generate.joint_sampling import Watch
from core.generate.networks import read_progress, require_recorded_weights
from core.generate.pipeline import BatchRequest, decoded, encoded_prompt, generate_latents, require_output, restored
from core.preprocess.collate import collate, uncollate
from core.types import Batch, Provenance, Sample

_PACKAGES = ("medweave", "torch", "diffusers", "monai")


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """``num`` studies to generate. Prompts and ``given`` by modality: a path, data, or for text the text itself.

    ``negative`` prompts stand for the null prompt; ``prompt_weights`` by modality, 1 where left out (method E4, E6).
    ``batch`` studies are computed at once, which changes rounding alone. With ``keep_prompt`` provenance has the text
    of a prompt from a file, and its SHA-256 otherwise.
    """

    outputs: Sequence[str]
    sampler: SamplerChoice
    prompts: Mapping[str, InputValue]
    given: Mapping[str, InputValue]
    negative: Mapping[str, InputValue] = field(default_factory=dict)
    prompt_weights: Mapping[str, float] = field(default_factory=dict)
    num: int = 4
    seed: int = 0
    batch: int = 16
    coupling: Coupling = "auto"
    keep_prompt: bool = False


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
    weights: str


@dataclass(frozen=True, eq=False)
class StudyRequest:
    """One study of a request: number ``index`` of its ``num``."""

    resolved: ResolvedRequest
    index: int


def resolve_request(bundle: Bundle, request: GenerationRequest, weights: str | None = None) -> ResolvedRequest:
    """Read the inputs of a request and decide what reaches which output.

    ``weights``: `weights_name` of the bundle, computed where left out. Raises `UserError` for whatever is wrong with
    the request, before the first step.
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
        unguided=request.sampler.unguided(request.outputs),
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
        weights=weights_name(bundle) if weights is None else weights,
    )


def generate_batches(studies: Sequence[StudyRequest], watch: Watch | None = None) -> dict[str, Batch]:
    """Return the canonical batches of studies that are computed together; ``watch`` is called after every step.

    Their requests may differ in inputs and seed, and in nothing else (`computed_together`).
    """
    resolved = studies[0].resolved
    bundle, request = resolved.bundle, resolved.request
    batch_request = BatchRequest(
        graph=resolved.graph,
        indices=[study.index for study in studies],
        seed=[study.resolved.request.seed for study in studies],
        prompts={name: _rows(bundle, [study.resolved.prompts[name] for study in studies]) for name in resolved.prompts},
        negative={
            name: _rows(bundle, [study.resolved.negative[name] for study in studies]) for name in resolved.negative
        },
        prompt_weights=request.prompt_weights,
        given={name: _rows(bundle, [study.resolved.given[name] for study in studies]) for name in resolved.given},
        watch=watch,
    )
    latents = generate_latents(bundle, batch_request, request.sampler)
    return {name: decoded(bundle, name, latent) for name, latent in latents.items()}


def computed_together(first: ResolvedRequest, second: ResolvedRequest) -> bool:
    """Return whether studies of both requests can be rows of one batch."""
    return (first.graph, first.request.sampler, first.request.prompt_weights) == (
        second.graph,
        second.request.sampler,
        second.request.prompt_weights,
    ) and all(getattr(first, kind).keys() == getattr(second, kind).keys() for kind in ("prompts", "negative", "given"))


def study_samples(resolved: ResolvedRequest, batches: Mapping[str, Batch], row: int) -> dict[str, Sample]:
    """Return one row of every batch in original units."""
    geometries = [condition.geometry for condition in resolved.given.values()]
    names = resolved.request.outputs
    return {name: restored(resolved.bundle, name, batches[name][[row]], geometries)[0] for name in names}


def shown_samples(samples: Mapping[str, Sample], batches: Mapping[str, Batch], row: int) -> dict[str, Sample]:
    """Return a study as pictures show it: text in original units, all else in canonical form."""
    chosen = torch.tensor([row])
    return {
        name: sample if isinstance(sample.data, str) else uncollate(batches[name][chosen])[0]
        for name, sample in samples.items()
    }


def provenance_of(resolved: ResolvedRequest, index: int, output: str | None = None) -> Provenance:
    """Return how an output of study ``index`` was made, with the inputs that it depends on; without one, with all."""
    inputs = _inputs(resolved)
    read = inputs if output is None else [name for name in inputs if name in resolved.inputs[output]]
    common = _provenance(resolved.bundle, resolved.request, resolved.weights)
    versions = {**common.versions, "order": _inputs_digest(resolved)}
    return common.model_copy(
        update={"prompts": {name: inputs[name].shown for name in read}, "index": index, "versions": versions}
    )


def common_provenance(bundle: Bundle, request: GenerationRequest) -> dict[str, Any]:
    """Return what the provenance of all studies of a table has in common, as JSON."""
    left_out = {"index", "prompts"}
    return _provenance(bundle, request, weights_name(bundle)).model_dump(mode="json", exclude=left_out)


def _provenance(bundle: Bundle, request: GenerationRequest, weights: str) -> Provenance:
    config = bundle.run.config
    settings = {**request.sampler.model_dump(), "coupling": request.coupling, "prompt_weights": request.prompt_weights}
    return Provenance(
        model=config.run.resolve().name,
        recipe=config.recipe,
        seed=request.seed,
        sampling={key: _shown(value) for key, value in settings.items()},
        versions={**package_versions(_PACKAGES), "weights": weights},
    )


def require_outputs(bundle: Bundle, outputs: Sequence[str]) -> None:
    """Raise `UserError` where there is no output, or the run has no trained denoiser of one."""
    if not outputs:
        raise UserError("nothing is left to generate: every modality of the run is given; name --output")
    for name in outputs:
        require_output(bundle, name)


def _require_modalities(bundle: Bundle, request: GenerationRequest) -> None:
    require_outputs(bundle, request.outputs)
    for name in request.outputs:
        if name in request.given:
            raise UserError(f"'{name}' is both given and to be generated; leave it out of --condition or of --output")
    for name in (*request.prompts, *request.negative, *request.given):
        if name not in bundle.run.flows.union.modalities:
            raise unknown_name("modality of this run", name, bundle.run.flows.union.modalities)


def _inputs_by_flag(request: GenerationRequest) -> dict[str, Mapping[str, InputValue]]:
    return {"--prompt": request.prompts, "--negative-prompt": request.negative, "--condition": request.given}


def _inputs(resolved: ResolvedRequest) -> dict[str, InputBatch]:
    """Return all prompts and given modalities, named as in provenance."""
    negative = {negative_key(name): prompt for name, prompt in resolved.negative.items()}
    given = {given_key(name): condition for name, condition in resolved.given.items()}
    return {**resolved.prompts, **negative, **given}


def _rows(bundle: Bundle, inputs: Sequence[InputBatch]) -> Batch:
    """Return the batch with a row of each input."""
    first = inputs[0].batch
    if all(each is inputs[0] for each in inputs):
        return first[torch.zeros(len(inputs), dtype=torch.long)]
    return collate(
        [sample for each in inputs for sample in uncollate(each.batch)], bundle.run.parts(first.modality).data
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


def weights_name(bundle: Bundle) -> str:
    """Return a name for the weights of the run and what they are used with; training that continues changes it."""
    config, folder = bundle.run.config, bundle.networks.folder
    digests = require_recorded_weights(read_progress(folder), folder)
    settings = config.model_dump(mode="json", exclude={"run", "device", "attention"})
    state = json.dumps([settings, digests], sort_keys=True)
    return f"sha256:{hashlib.sha256(state.encode()).hexdigest()}"
