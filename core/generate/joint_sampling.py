"""Joint sampling: at each step every flow reads the current latents of its partners (method E16, F1, F3, F4, F8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from core.config.sampler import SamplerChoice
from core.contract.modality import Denoiser
from core.diffuse.objective import Diffusion
from core.engine.rng import make_generator
from core.errors import UserError, unknown_name
from core.generate.guidance import (
    PLAIN,
    PLAIN_MODEL,
    Branch,
    Guidance,
    guided_prediction,
    predict_branches,
    rescaled_prediction,
)
from core.generate.solvers import Latents, solve
from core.guide.context_encoder import ContextEncoder, joined
from core.nn import NoiseSchedule, Parameterisation
from core.types import Conditioning, Context

CouplingGraph = Mapping[str, Collection[str]]  # partners by output
State = Mapping[str, tuple[Tensor, Tensor]]  # latent and level of every flow
# A step, the number of steps, and the estimate of every output's clean latent.
Watch = Callable[[int, int, Mapping[str, Tensor]], None]
Spacing = Literal["trailing", "leading", "linspace"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """A modality to generate.

    ``prompted`` and ``null`` condition the two halves of ``guidance`` (method E6, F8); ``null`` may hold negative
    prompts. ``components``: single prompts and their weights, of sum 1, which are predicted with one by one in place of
    ``prompted`` (Liu et al. 2022, Eq. 11). ``absent``: whether the half without partners reads their adaptation tokens,
    as partner dropping trains it, or no context at all. ``context_encoder`` encodes its latent for its partners;
    without one it is nobody's partner. ``steps``: fewer than the sampler's.
    """

    denoiser: Denoiser
    prompted: Conditioning
    null: Conditioning
    components: tuple[tuple[float, Conditioning], ...] = ()
    guidance: Guidance = PLAIN_MODEL
    absent: bool = True
    context_encoder: ContextEncoder | None = None
    steps: int | None = None

    @property
    def has_prompt(self) -> bool:
        """Return whether the two halves of the prompt's guidance differ."""
        return self.prompted is not self.null or bool(self.components)

    def conditionings(self, branch: Branch) -> tuple[tuple[float, Conditioning], ...]:
        """Return what a branch is conditioned on, with weights of sum 1, without context."""
        if not branch.prompted:
            return ((1.0, self.null),)
        return self.components or ((1.0, self.prompted),)


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """A clean partner: a scaled latent ``batch channel *space`` that is known; ``present`` bool ``batch``, or all."""

    latent: Tensor
    context_encoder: ContextEncoder
    present: Tensor | None = None

    def context(self) -> Context:
        """Return its context, which is the same at every step (method F3).

        The adaptation tokens f stand for the latent where it is not present (method E12).
        """
        clean = torch.ones(len(self.latent), dtype=torch.bool, device=self.latent.device)
        level = torch.full((len(clean),), torch.inf, device=clean.device)
        return self.context_encoder(self.latent, level, clean, None if self.present is None else ~self.present)


@dataclass(frozen=True, kw_only=True, eq=False)
class Contexts:
    """Contexts by sender: of the latents as they are (``present``), and with the adaptation tokens f in their place."""

    present: Mapping[str, Context]
    absent: Mapping[str, Context]


@torch.no_grad()
def sample_jointly(
    outputs: Mapping[str, Output],
    given: Mapping[str, Given],
    *,
    seed: int | Sequence[int],
    indices: Sequence[int],
    sampler: SamplerChoice,
    partners: CouplingGraph | None = None,
    partner_rows: Sequence[int] | None = None,
    diffusion: Diffusion | None = None,
    watch: Watch | None = None,
) -> dict[str, Tensor]:
    """Return the scaled latents of all outputs, ``batch channel *space`` by name (method E16).

    ``indices`` number the samples, the rows of every conditioning and given latent: noise of sample ``i`` depends on
    (seed, i, name, step) alone (method F6); ``seed`` is one, or one per row. ``partners`` by output, all where left
    out; an output that it does not name has none. ``partner_rows``: per row, the row whose partners it reads. Each
    output brings its guidance, that of ``sampler`` is not used. ``diffusion``: that which the denoisers were trained
    in, the papers' where left out.
    ``watch`` is called after every step.

    Raises `UserError` for partners that do not take part, and for numbers of rows that differ.
    """
    names, senders, diffusion = tuple(outputs), resolve_partners(outputs, given, partners), diffusion or Diffusion()
    _require_rows(outputs, given, len(indices))
    fixed = {name: partner.context() for name, partner in given.items()}
    absent = absent_contexts(outputs, given, senders, len(indices))

    def noise(flow: int, step: int | str) -> Tensor:
        name, output = names[flow], outputs[names[flow]]
        drawn = sample_noise(seed, indices, name, step, output.denoiser.latent_shape)
        return drawn.to(output.null.prompt.device)

    def predict(latents: Latents, levels: tuple[Tensor, ...], due: tuple[int, ...]) -> tuple[Tensor, ...]:
        state = dict(zip(names, zip(latents, levels, strict=True), strict=True))
        wanted = [names[flow] for flow in due]
        current = current_contexts(outputs, state, {sender for name in wanted for sender in senders[name]})
        contexts = {name: context_of(context, partner_rows) for name, context in {**current, **fixed}.items()}
        both = Contexts(present=contexts, absent=absent)
        predicted = joint_predictions(outputs, senders, both, state, wanted, diffusion.parameterisation)
        return tuple(predicted.values())

    points = [substep_indices(sampler.steps, output.steps or sampler.steps) for output in outputs.values()]
    delays = lead_delays(names, sampler.steps, sampler.lead)
    latents = solve(
        predict,
        tuple(noise(flow, "start") for flow in range(len(names))),
        delayed_schedule(shared_schedule(sampler.steps, diffusion.schedule), delays),
        noise,
        parameterisation=diffusion.parameterisation,
        solver=sampler.solver,
        eta=sampler.eta,
        points=[[delay + index for index in indices] for delay, indices in zip(delays, points, strict=True)],
        watch=None if watch is None else _by_name(watch, names, sampler.steps + max(delays)),
    )
    return dict(zip(names, latents, strict=True))


def _by_name(watch: Watch, names: Sequence[str], steps: int) -> Callable[[int, Latents], None]:
    return lambda step, clean: watch(step, steps, dict(zip(names, clean, strict=True)))


def resolve_partners(
    outputs: Mapping[str, Output], given: Mapping[str, Given], partners: CouplingGraph | None
) -> dict[str, list[str]]:
    """Return the partners of each output in the order of the flows: all of them, or those of ``partners``.

    No output is its own partner, and one without a context encoder is nobody's (method F1). Raises `UserError` for
    names that do not take part, and for one that is both given and generated.
    """
    senders = [*(name for name, output in outputs.items() if output.context_encoder is not None), *given]
    _require_known_names(outputs, given, partners or {})
    chosen = {name: senders if partners is None else partners.get(name, ()) for name in outputs}
    return {name: [sender for sender in senders if sender in chosen[name] and sender != name] for name in outputs}


def context_of(context: Context, rows: Sequence[int] | None) -> Context:
    """Return the context with the rows of other samples, unchanged where ``rows`` is ``None``."""
    if rows is None:
        return context
    return context[list(rows)]


def current_contexts(outputs: Mapping[str, Output], state: State, senders: Collection[str]) -> dict[str, Context]:
    """Return the contexts of the outputs among ``senders``, of their latents at their levels (method E13, F1, F3)."""
    contexts = {}
    for name, output in outputs.items():
        if name in senders and output.context_encoder is not None:
            z, level = state[name]
            clean = level.isposinf().expand(len(z))  # one that ran ahead is a clean partner from its end on
            contexts[name] = output.context_encoder(z, level.expand(len(z)), clean)
    return contexts


def absent_contexts(
    outputs: Mapping[str, Output], given: Mapping[str, Given], partners: CouplingGraph, rows: int
) -> dict[str, Context]:
    """Return the context of every partner that an output's guidance leaves out, as if it were absent (method E12, F8).

    It holds the null token and the adaptation tokens f, so that it is the same at every level.
    """
    guided = [name for name, output in outputs.items() if output.absent and output.guidance.without_partners]
    wanted = {sender for name in guided for sender in partners[name]}
    encoders = {name: each.context_encoder for name, each in {**outputs, **given}.items() if name in wanted}
    return {name: absent_context(encoder, rows) for name, encoder in encoders.items() if encoder is not None}


def absent_context(encoder: ContextEncoder, rows: int) -> Context:
    """Return the context of a sender whose latent is absent in all ``rows`` (method E12)."""
    device = encoder.null.device
    everywhere = torch.ones(rows, dtype=torch.bool, device=device)
    level = torch.full((rows,), torch.inf, device=device)
    return encoder(torch.zeros(rows, *encoder.shape, device=device), level, everywhere, everywhere)


def joint_predictions(
    outputs: Mapping[str, Output],
    partners: CouplingGraph,
    contexts: Contexts,
    state: State,
    due: Collection[str],
    parameterisation: Parameterisation | None = None,
) -> dict[str, Tensor]:
    """Return the guided predictions of the flows in ``due`` (method E6, E16, F8).

    ``state``: latent and level (scalar) of every flow. All branches of a flow are at one latent, so one context of it
    serves its partners' branches. ``parameterisation`` says what denoisers predict, the noise where left out.
    """
    predicted = {}
    for name in due:
        guided, plain = _predictions(outputs[name], partners[name], contexts, *state[name])
        if plain is not None:
            (z, level), phi = state[name], outputs[name].guidance.rescale
            guided = rescaled_prediction(guided, plain, z, level, parameterisation or Parameterisation(), phi)
        predicted[name] = guided
    return predicted


def _predictions(
    output: Output, senders: Collection[str], contexts: Contexts, z: Tensor, level: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return the guided prediction of one flow, and that of the plain model where it is rescaled to it.

    Both ``batch channel *space``.
    """
    weights = output.guidance.weights_at(level, prompted=output.has_prompt, coupled=bool(senders))
    rescales = output.guidance.rescale > 0 and len(weights) > 1
    extra = [PLAIN] if rescales and PLAIN not in weights else []
    # Branches that read the same partners share one context, whose keys and values are then computed once.
    read = {
        coupled: _branch_context(output, coupled, senders, contexts)
        for coupled in {branch.coupled for branch in (*weights, *extra)}
    }
    parts = [
        (branch, share, replace(conditioning, context=read[branch.coupled]))
        for branch in (*weights, *extra)
        for share, conditioning in output.conditionings(branch)
    ]
    predicted = predict_branches(output.denoiser, z, level.expand(len(z)), [part for _, _, part in parts])
    predictions: dict[Branch, Tensor] = {}
    for (branch, share, _), prediction in zip(parts, predicted, strict=True):
        scaled = prediction if share == 1 else share * prediction
        predictions[branch] = predictions[branch] + scaled if branch in predictions else scaled
    return guided_prediction(predictions, weights), predictions[PLAIN] if rescales else None


def _branch_context(output: Output, coupled: bool, senders: Collection[str], contexts: Contexts) -> Context | None:
    """Return the joined context of the branches with or without partners; ``None`` where no partner takes part."""
    if not senders or not (coupled or output.absent):
        return None
    source = contexts.present if coupled else contexts.absent
    return joined([source[sender] for sender in senders])


def _require_known_names(outputs: Mapping[str, Output], given: Mapping[str, Given], partners: CouplingGraph) -> None:
    twice = set(outputs) & set(given)
    if twice:
        raise UserError(f"'{min(twice)}' is both given and to be generated; leave it out of one of them")
    for output, names in partners.items():
        if output not in outputs:
            raise unknown_name("output", output, outputs)
        for name in names:
            if name not in outputs and name not in given:
                raise unknown_name(f"partner of '{output}'", name, [*outputs, *given])


def _require_rows(outputs: Mapping[str, Output], given: Mapping[str, Given], rows: int) -> None:
    lengths = {name: len(half.prompt) for name, output in outputs.items() for half in (output.prompted, output.null)}
    lengths |= {name: len(partner.latent) for name, partner in given.items()}
    wrong = {name: number for name, number in lengths.items() if number != rows}
    if not outputs or wrong:
        shown = ", ".join(f"'{name}' has {number}" for name, number in wrong.items()) or "no output"
        raise UserError(f"joint sampling of {rows} samples: {shown}; give every output and partner {rows} rows")


def sample_noise(
    seed: int | Sequence[int], indices: Sequence[int], flow: str, step: int | str, shape: Sequence[int]
) -> Tensor:
    """Return Gaussian noise ``batch *shape``; that of sample ``i`` depends on (seed, i, flow, step) alone (method F6).

    ``seed``: one for all rows, or one per row. Drawn in float32 on the CPU, so that one seed is one noise on every
    device.
    """
    seeds = [seed] * len(indices) if isinstance(seed, int) else seed
    generators = [
        make_generator(each, "generate", index, flow, step) for each, index in zip(seeds, indices, strict=True)
    ]
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])


def shared_schedule(steps: int, schedule: NoiseSchedule | None = None, spacing: Spacing = "trailing") -> Tensor:
    """Return the log-SNR of ``steps`` decreasing noise levels, and +inf, a clean latent, last: float32 ``steps + 1``.

    All flows step on this schedule together (method E16): on that of their training, the papers' where left out.
    ``trailing`` begins at the noisiest timestep that training has seen (999, 979, ...), minus infinity where that is
    pure noise; ``leading`` is that of the published Stable Diffusion (981, ..., 1); ``linspace`` has both ends. Raises
    `UserError` unless ``steps`` is between 1 and the schedule's timesteps.
    """
    schedule = schedule or NoiseSchedule()
    total = schedule.timesteps
    if not 1 <= steps <= total:
        raise UserError(f"the number of sampling steps must be between 1 and {total}, found {steps}")
    stride = total / steps
    if spacing == "trailing":
        timesteps = (total - torch.arange(steps) * stride).round() - 1
    elif spacing == "leading":
        offset = int(steps < total)
        timesteps = torch.arange(steps).flip(0) * math.floor(stride) + offset
    else:
        timesteps = torch.linspace(0, total - 1, steps).round().flip(0)
    return torch.cat([schedule.log_snr(timesteps), torch.tensor([torch.inf])])


def lead_delays(names: Sequence[str], steps: int, lead: Mapping[str, float]) -> list[int]:
    """Return by how many steps each flow begins after the one that leads; a lead is a share of ``steps`` (method F3).

    Where none leads, all begin together.
    """
    ahead = [round(lead.get(name, 0.0) * steps) for name in names]
    return [max(ahead) - number for number in ahead]


def delayed_schedule(schedule: Tensor, delays: Sequence[int]) -> Tensor:
    """Return the log-SNR of each flow, ``flow point``: its noisiest before it begins, +inf after its end (method F3).

    Models that are trained with a level per modality read one that leads as a partner with less noise, or none.
    """
    last = max(delays)
    rows = [torch.cat([schedule[:1].expand(delay), schedule, schedule[-1:].expand(last - delay)]) for delay in delays]
    return torch.stack(rows)


def substep_indices(num: int, steps: int) -> tuple[int, ...]:
    """Return the indices of a coarser flow's ``steps + 1`` levels among the ``num + 1`` of the shared schedule.

    The first and the last are shared, the others spread evenly (method E16). Raises `UserError` for more steps than
    the shared schedule has.
    """
    if not 1 <= steps <= num:
        raise UserError(f"a flow takes between 1 and the shared schedule's {num} steps, found {steps}")
    return tuple(round(point * num / steps) for point in range(steps + 1))
