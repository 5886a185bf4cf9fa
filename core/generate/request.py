"""A request to generate studies: its inputs are read, its names are checked, and it says where each study came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

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
from core.preprocess.collate import uncollate
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
        weights=_weights(bundle),
    )


def generate_batches(resolved: ResolvedRequest, indices: Sequence[int], watch: Watch | None = None) -> dict[str, Batch]:
    """Return the canonical batches of the studies with these numbers; ``watch`` is called after every step."""
    bundle, request, rows = resolved.bundle, resolved.request, len(indices)
    batch_request = BatchRequest(
        graph=resolved.graph,
        indices=indices,
        seed=request.seed,
        prompts={name: _repeated(prompt.batch, rows) for name, prompt in resolved.prompts.items()},
        negative={name: _repeated(prompt.batch, rows) for name, prompt in resolved.negative.items()},
        prompt_weights=request.prompt_weights,
        given={name: _repeated(condition.batch, rows) for name, condition in resolved.given.items()},
        watch=watch,
    )
    latents = generate_latents(bundle, batch_request, request.sampler)
    return {name: decoded(bundle, name, latent) for name, latent in latents.items()}


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
    request, config = resolved.request, resolved.bundle.run.config
    settings = {**request.sampler.model_dump(), "coupling": request.coupling, "prompt_weights": request.prompt_weights}
    inputs = _inputs(resolved)
    read = inputs if output is None else [name for name in inputs if name in resolved.inputs[output]]
    return Provenance(
        model=config.run.resolve().name,
        recipe=config.recipe,
        prompts={name: inputs[name].shown for name in read},
        seed=request.seed,
        index=index,
        sampling={key: _shown(value) for key, value in settings.items()},
        versions={
            **package_versions(_PACKAGES),
            "weights": resolved.weights,
            "order": _inputs_digest(resolved),
        },
    )


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


def _inputs_by_flag(request: GenerationRequest) -> dict[str, Mapping[str, InputValue]]:
    return {"--prompt": request.prompts, "--negative-prompt": request.negative, "--condition": request.given}


def _inputs(resolved: ResolvedRequest) -> dict[str, InputBatch]:
    """Return all prompts and given modalities, named as in provenance."""
    negative = {negative_key(name): prompt for name, prompt in resolved.negative.items()}
    given = {given_key(name): condition for name, condition in resolved.given.items()}
    return {**resolved.prompts, **negative, **given}


def _repeated(batch: Batch, rows: int) -> Batch:
    return batch[torch.zeros(rows, dtype=torch.long)]


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
