"""Generated studies: from prompts and given modalities to samples in original units (method E16)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from core.config.sampler import SamplerChoice
from core.diffuse.objective import Diffusion
from core.diffuse.prompts import mixing_shares
from core.encode.latents import scaled, unscaled
from core.errors import UserError
from core.generate.bundle import Bundle
from core.generate.conditioning import ConditioningGraph, given_grid
from core.generate.guidance import Guidance
from core.generate.joint_sampling import Given, Output, Watch, sample_jointly
from core.preprocess.collate import uncollate
from core.types import Batch, Conditioning, Geometry, Prompt, Sample


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """What to generate in one batch.

    ``graph`` names the outputs and says which input reaches which. ``seed``: one, or one per row. ``prompts`` and
    ``given`` are batches by modality, row ``i`` of each for sample ``indices[i]``: a prompt describes a study, a
    ``negative`` one stands for the null prompt, and a given modality is part of the study and takes part as a clean
    partner (method E6, F3).
    ``prompt_weights`` by modality, 1 where left out (method E4). ``partner_rows``: per row, the row whose partners it
    reads; with another patient's rows, what is left of coherence is its floor. ``watch`` is called after every step
    of the outputs that are sampled together; those that are finished first have steps of their own.
    """

    graph: ConditioningGraph
    indices: Sequence[int]
    seed: int | Sequence[int] = 0
    prompts: Mapping[str, Batch] = field(default_factory=dict)
    negative: Mapping[str, Batch] = field(default_factory=dict)
    prompt_weights: Mapping[str, float] = field(default_factory=dict)
    given: Mapping[str, Batch] = field(default_factory=dict)
    partner_rows: Sequence[int] | None = None
    watch: Watch | None = None


def generate_latents(bundle: Bundle, request: BatchRequest, sampler: SamplerChoice) -> dict[str, Tensor]:
    """Return the scaled latents ``batch channel *space`` of every output.

    Outputs that are finished first prompt the others as if they had been given (method F3).
    """
    graph = request.graph
    for name in graph.outputs:
        require_output(bundle, name)
    if not graph.first:
        return _sampled(bundle, request, sampler)
    latents = _sampled(bundle, replace(request, graph=graph.of(graph.first)), sampler)
    rest = graph.of([name for name in graph.outputs if name not in graph.first])
    read = {prompt for route in rest.prompts.values() for prompt in route.values()}
    prompts = {name: decoded(bundle, name, latents[name]) for name in graph.first if name in read}
    if request.partner_rows is not None:  # those of another patient, as their partners are
        prompts = {name: batch[torch.tensor(request.partner_rows)] for name, batch in prompts.items()}
    latents |= _sampled(bundle, replace(request, graph=rest, prompts={**request.prompts, **prompts}), sampler)
    return {name: latents[name] for name in graph.outputs}


def _sampled(bundle: Bundle, request: BatchRequest, sampler: SamplerChoice) -> dict[str, Tensor]:
    """Return the latents of outputs that are sampled together."""
    graph = request.graph
    with torch.no_grad():
        prompts, negative = (
            {name: encoded_prompt(bundle, name, batch) for name, batch in batches.items()}
            for batches in (request.prompts, request.negative)
        )
        return sample_jointly(
            {name: _output(bundle, name, request, prompts, negative, sampler) for name in graph.outputs},
            {name: _given(bundle, name, batch) for name, batch in request.given.items()},
            seed=request.seed,
            indices=request.indices,
            sampler=sampler,
            partners=graph.partners,
            partner_rows=request.partner_rows,
            diffusion=Diffusion.of(bundle.run.config.diffuse),
            watch=request.watch,
        )


def in_batches(num: int, size: int) -> Iterator[range]:
    """Return the numbers of ``num`` samples, ``size`` at a time."""
    return (range(start, min(start + size, num)) for start in range(0, num, size))


def decoded(bundle: Bundle, name: str, latents: Tensor) -> Batch:
    """Return the canonical data of scaled latents; `UserError` where they are not finite."""
    if not bool(latents.isfinite().all()):
        raise UserError(
            f"'{name}': what was generated is not finite; lower --guidance-scale and --context-scale, or train longer"
        )
    module = bundle.part(name, "autoencoder")
    with torch.no_grad():
        batch = getattr(module, "decode_generated", module.decode)(unscaled(latents, bundle.latent_spec(name)))
    return replace(batch, modality=name)  # an autoencoder that several share does not know whose latent it was


def restored(bundle: Bundle, name: str, batch: Batch, given: Sequence[Geometry | None] = ()) -> list[Sample]:
    """Return samples in original units, on the grid of the ``given`` image that shows the same plane or volume.

    Where there is none (`given_grid`), they have the default geometry.
    """
    parts = bundle.run.parts(name)
    if parts.preprocess is None:
        raise UserError(f"modality '{name}' has no preprocessor at this preset; choose another preset")
    preprocess = parts.preprocess.build()
    like = given_grid(parts.data.default_geometry, given)
    return [preprocess.invert(sample, like) for sample in uncollate(batch)]


def encoded_prompt(bundle: Bundle, name: str, batch: Batch) -> Prompt:
    """Return the prompt of a batch, its modality's mean removed (method E6b); `UserError` without a trained encoder."""
    if bundle.run.parts(name).prompt is None:
        raise UserError(f"'{name}' has no prompt encoder at this preset and cannot be a prompt; give another modality")
    key = bundle.key(name, "prompt")
    if not bundle.networks.trained(key):
        raise UserError(f"'{name}' cannot be a prompt: this run has not trained '{key}'; run its phase 'align'")
    return bundle.prompt_encoder(name).eval()(bundle.networks.compute.to_device(batch))


def encoded_latent(bundle: Bundle, name: str, batch: Batch) -> Tensor:
    """Return the scaled latent (posterior mean) of a batch."""
    with torch.no_grad():
        mean = bundle.part(name, "autoencoder").encode(bundle.networks.compute.to_device(batch)).mean
    return scaled(mean, bundle.latent_spec(name))


def require_output(bundle: Bundle, name: str) -> None:
    """Raise `UserError` where the run has no trained denoiser of a modality."""
    run = bundle.run
    if name not in run.outputs:
        raise UserError(
            f"'{name}' is not what this run makes (it makes: {', '.join(run.outputs)}); choose one of these, or train a"
            " run whose flow has it"
        )
    key = bundle.key(name, "denoiser")
    if not bundle.networks.trained(key):
        raise UserError(f"'{name}': this run has not trained '{key}' yet; let its phase 'diffuse' finish")


def conditionings(
    bundle: Bundle, name: str, prompts: Mapping[str, Prompt], rows: int
) -> tuple[Conditioning, Conditioning]:
    """Return what a denoiser is conditioned on with these prompts by source, and with none (method E6)."""
    assembly, device = bundle.assembly(name).eval(), bundle.networks.compute.device
    no = torch.zeros(rows, dtype=torch.bool, device=device)
    return assembly(prompts, no), assembly(prompts, ~no)


def routed_prompts(bundle: Bundle, route: Mapping[str, str], prompts: Mapping[str, Prompt]) -> dict[str, Prompt]:
    """Return the prompts that a denoiser reads (`route_prompts`).

    Of a modality that is none of its sources it reads the pooled vector alone (method E6b; `PromptAssembly`).
    """
    return {source: prompts[name] for source, name in route.items()}


def weighted_conditionings(
    bundle: Bundle, name: str, prompts: Mapping[str, Prompt], rows: int, weights: Mapping[str, float]
) -> tuple[tuple[float, Conditioning], ...]:
    """Return what weighted prompts condition a denoiser on, with shares of sum 1 (method E4).

    A recipe with one mixed vector mixes it by the weights: one conditioning. Tokens cannot be mixed, and attention to
    some of them has no weight in stock networks. There each prompt conditions a prediction of its own, and guidance
    adds them up (Liu et al. 2022, Eq. 11), so that each prompt has a scale of its own: its share of the whole.
    """
    assembly, no = bundle.assembly(name).eval(), torch.zeros(rows, dtype=torch.bool)
    no = no.to(bundle.networks.compute.device)
    if bundle.run.config.prompt.form in ("mixed_pooled", "pooled"):
        return ((1.0, assembly(prompts, no, weights=weights)),)
    shares = mixing_shares(prompts, weights)
    return tuple((share, assembly({source: prompts[source]}, no)) for source, share in shares.items())


def _output(
    bundle: Bundle,
    name: str,
    request: BatchRequest,
    prompts: Mapping[str, Prompt],
    negative: Mapping[str, Prompt],
    sampler: SamplerChoice,
) -> Output:
    """Return an output with both halves of its prompt's guidance; without any prompt they are the same."""
    rows, graph, coupled = len(request.indices), request.graph, bundle.coupled(name)
    if coupled:
        bundle.sites(name)
    read = routed_prompts(bundle, graph.prompts[name], prompts)
    avoided = routed_prompts(bundle, graph.negative.get(name, {}), negative)
    prompted, null = conditionings(bundle, name, read, rows)
    weighted = len(set(mixing_shares(read, request.prompt_weights).values())) > 1
    return Output(
        denoiser=bundle.part(name, "denoiser").eval(),
        prompted=prompted if read else null,
        null=conditionings(bundle, name, avoided, rows)[0] if avoided else null,
        components=weighted_conditionings(bundle, name, read, rows, request.prompt_weights) if weighted else (),
        guidance=Guidance.of(sampler, name),
        absent=bundle.run.config.guide.partner_drop > 0,
        context_encoder=bundle.context_encoder(name).eval() if coupled else None,
    )


def _given(bundle: Bundle, name: str, batch: Batch) -> Given:
    if bundle.run.parts(name).autoencoder is None or not bundle.networks.trained(f"context.{name}"):
        raise UserError(
            f"'{name}' cannot be given: this run has trained no context encoder of it (phase 'guide'); give it as"
            " --prompt, or leave it out"
        )
    return Given(latent=encoded_latent(bundle, name, batch), context_encoder=bundle.context_encoder(name).eval())
