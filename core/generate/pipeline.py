"""Generated studies: from prompts and given modalities to samples in original units (METHOD E16).

Where in the patient an output lies that follows a given image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from core.config.recipe import SamplerChoice
from core.encode.latents import scaled, unscaled
from core.errors import UserError
from core.generate.bundle import Bundle
from core.generate.coupling import Couple, Given, Output
from core.generate.joint_sampling import sample_jointly
from core.guide.attention import known_axes
from core.preprocess.collate import uncollate
from core.preprocess.spatial import turn_to
from core.types import Batch, Conditioning, Geometry, Prompt, Sample


def given_grid(own: Geometry | None, given: Iterable[Geometry | None]) -> Geometry | None:
    """The grid of the first given image that shows points of the same plane or volume as an output, else ``None``.

    ``own`` is the output's default geometry, whose array axes the grid is turned to. Slices of one plane do, and
    volumes; a projection and a slice, or data without a place, do not. What the given file says of how it was made
    (``stored``) is not true of the output and not taken.
    """
    if own is None or not all(known_axes(own)):
        return None
    for one in given:
        if one is not None and all(known_axes(one)) and len(one.shape) == len(own.shape):
            try:
                return replace(turn_to(one, own.orientation).geometry(one), stored=own.stored)
            except ValueError:  # slices of another plane
                continue
    return None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to generate.

    ``prompts`` and ``given`` are batches by modality, row ``i`` of each for sample ``indices[i]``: a prompt says what a
    study is about, a given modality is the study's own and takes part as a clean partner (METHOD F3). ``couple``: who
    listens to whom, all partners where ``None``. ``partner_of`` gives, per row, the row whose partners it hears: other
    than its own is the floor of coherence.
    """

    outputs: Sequence[str]
    indices: Sequence[int]
    seed: int = 0
    prompts: Mapping[str, Batch] = field(default_factory=dict)
    given: Mapping[str, Batch] = field(default_factory=dict)
    couple: Couple | None = None
    partner_of: Sequence[int] | None = None


def generate_latents(bundle: Bundle, asked: Request, sampler: SamplerChoice) -> dict[str, Tensor]:
    """Scaled latents ``batch channel *space`` of every output."""
    for name in asked.outputs:
        require_output(bundle, name)
    with torch.no_grad():
        told = {name: encoded_prompt(bundle, name, batch) for name, batch in asked.prompts.items()}
        return sample_jointly(
            {name: _output(bundle, name, told, len(asked.indices), sampler.scale) for name in asked.outputs},
            {name: _given(bundle, name, batch) for name, batch in asked.given.items()},
            seed=asked.seed,
            indices=asked.indices,
            sampler=sampler,
            couple=asked.couple,
            partner_of=asked.partner_of,
        )


def decoded(bundle: Bundle, name: str, latents: Tensor) -> Batch:
    """Canonical data of scaled latents."""
    with torch.no_grad():
        batch = bundle.part(name, "autoencoder").decode(unscaled(latents, bundle.latent_spec(name)))
    return replace(batch, modality=name)  # an autoencoder that several share does not know whose latent it was


def restored(bundle: Bundle, name: str, batch: Batch, given: Sequence[Geometry | None] = ()) -> list[Sample]:
    """Samples in original units, on the grid of the ``given`` image that shows the same points (`given_grid`).

    Where none does they have the default geometry.
    """
    parts = bundle.run.parts(name)
    if parts.preprocess is None:
        raise UserError(f"modality '{name}' has no preprocessor at this preset; choose another preset")
    preprocess = parts.preprocess.build()
    like = given_grid(parts.data.default_geometry, given)
    return [preprocess.invert(sample, like) for sample in uncollate(batch)]


def encoded_prompt(bundle: Bundle, name: str, batch: Batch) -> Prompt:
    """The prompt of a batch in the shared space."""
    if bundle.run.parts(name).prompt is None:
        raise UserError(f"'{name}' has no prompt encoder at this preset and cannot be a prompt; give another modality")
    key = bundle.key(name, "prompt")
    if not bundle.networks.trained(key):
        raise UserError(f"'{name}' cannot be a prompt: this run has not trained '{key}'; run its phase 'align'")
    return bundle.part(name, "prompt").eval()(bundle.networks.compute.to_device(batch))


def encoded_latent(bundle: Bundle, name: str, batch: Batch) -> Tensor:
    """The scaled latent (posterior mean) of a batch."""
    with torch.no_grad():
        mean = bundle.part(name, "autoencoder").encode(bundle.networks.compute.to_device(batch)).mean
    return scaled(mean, bundle.latent_spec(name))


def require_output(bundle: Bundle, name: str) -> None:
    """`UserError` where the run has not learned to make a modality."""
    run = bundle.run
    if name not in run.outputs:
        raise UserError(
            f"'{name}' is not what this run makes (it makes: {', '.join(run.outputs)}); choose one of these, or train a"
            " run whose flow has it"
        )
    key = bundle.key(name, "denoiser")
    if not bundle.networks.trained(key):
        raise UserError(f"'{name}': this run has not trained '{key}' yet; let its phase 'diffuse' finish")


def trained_couples(bundle: Bundle, outputs: Collection[str], given: Collection[str]) -> Couple:
    """For every output the partners that a round of phase ``guide`` has coupled it with (METHOD E15)."""
    pairs = {frozenset(pair) for pair in bundle.trained_pairs}
    partners = [*outputs, *given]
    return {name: tuple(one for one in partners if frozenset((one, name)) in pairs and one != name) for name in outputs}


def helpful_couples(bundle: Bundle, outputs: Collection[str], given: Collection[str]) -> Couple:
    """The same, of the outputs only those that were shown to help (METHOD F4); what is given was asked for."""
    return {
        name: tuple(one for one in partners if one in given or bundle.helps(name, one))
        for name, partners in trained_couples(bundle, outputs, given).items()
    }


def _output(bundle: Bundle, name: str, told: Mapping[str, Prompt], rows: int, scale: float) -> Output:
    """Both guidance halves; without a prompt there is one half only."""
    if bundle.coupled(name):
        bundle.sites(name)
    prompted, null = conditionings(bundle, name, told, rows)
    heard = bool(heard_prompts(bundle, name, told))
    return Output(
        denoiser=bundle.part(name, "denoiser").eval(),
        prompted=prompted,
        null=null,
        scale=scale if heard else 0.0,
        environment=bundle.environment(name).eval() if bundle.coupled(name) else None,
    )


def conditionings(
    bundle: Bundle, name: str, told: Mapping[str, Prompt], rows: int
) -> tuple[Conditioning, Conditioning]:
    """What a denoiser is conditioned on with these prompts, and with none (METHOD E6)."""
    assembly, device = bundle.assembly(name).eval(), bundle.networks.compute.device
    heard = heard_prompts(bundle, name, told)
    no = torch.zeros(rows, dtype=torch.bool, device=device)
    return assembly(heard, no), assembly(heard, ~no)


def heard_prompts(bundle: Bundle, name: str, told: Mapping[str, Prompt]) -> dict[str, Prompt]:
    """The prompts by the source that a denoiser hears them as (METHOD E6b).

    Neighbours in the flow are heard whole. Of any other modality the pooled vector is heard, with its modality's mean
    replaced by that of a neighbour in whose place it stands; it is not heard where no neighbour is left.
    """
    sources = bundle.run.prompt_sources(name)
    heard = {source: prompt for source, prompt in told.items() if source in sources}
    for other, prompt in told.items():
        free = [source for source in sources if source not in heard and bundle.mean_prompt(source)]
        if other != name and other not in sources and free and bundle.mean_prompt(other):
            heard[free[0]] = _in_place_of(bundle, prompt, other, free[0])
    return heard


def _in_place_of(bundle: Bundle, prompt: Prompt, own: str, other: str) -> Prompt:
    """A pooled vector moved from the region of one modality to that of another, without tokens."""
    shift = prompt.pooled.new_tensor(bundle.mean_prompt(other)) - prompt.pooled.new_tensor(bundle.mean_prompt(own))
    pooled = F.normalize(prompt.pooled + shift, dim=-1)
    return Prompt(tokens=prompt.tokens[:, :1], pooled=pooled, mask=prompt.mask[:, :1])


def _given(bundle: Bundle, name: str, batch: Batch) -> Given:
    if bundle.run.parts(name).autoencoder is None or not bundle.networks.trained(f"context.{name}"):
        raise UserError(
            f"'{name}' cannot be given: this run has trained no context encoder of it (phase 'guide'); give it as"
            " --prompt, or leave it out"
        )
    return Given(latent=encoded_latent(bundle, name, batch), environment=bundle.environment(name).eval())


def in_batches(num: int, size: int) -> Iterator[range]:
    """The numbers of ``num`` samples, ``size`` at a time."""
    return (range(start, min(start + size, num)) for start in range(0, num, size))
