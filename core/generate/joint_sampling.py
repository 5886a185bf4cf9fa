"""Joint sampling: every flow reads the others' current latents at each step (METHOD E16, F1, F3, F4).

Noise of single samples: the same whatever else is in the batch (METHOD F6).

The master grid of noise levels on which all flows step together (METHOD E16).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from core.config.recipe import SamplerChoice
from core.diffuse.objective import guided
from core.engine.rng import make_generator
from core.errors import UserError
from core.generate.coupling import Couple, Given, Output, listeners
from core.generate.solvers import Latents, solve
from core.guide.context_encoder import joined
from core.nn import NUM_TIMESTEPS, log_snr_of_timestep
from core.types import Context


def sample_noise(seed: int, indices: Sequence[int], flow: str, step: int | str, shape: Sequence[int]) -> Tensor:
    """Gaussian noise ``batch *shape``; that of sample ``i`` depends on (seed, i, flow, step) alone (METHOD F6).

    Drawn in float32 on the CPU, so that one seed is one noise on every device.
    """
    rows = [torch.randn(*shape, generator=make_generator(seed, "generate", index, flow, step)) for index in indices]
    return torch.stack(rows)


Spacing = Literal["trailing", "leading", "linspace"]


def master_grid(steps: int, spacing: Spacing = "trailing") -> Tensor:
    """Log-SNR of ``steps`` decreasing noise levels, and +inf, a clean latent, as the last: float32 ``steps + 1``.

    ``trailing`` ends on the noisiest timestep that training has seen (999, 979, ...); ``leading`` is that of the
    published Stable Diffusion (981, ..., 1); ``linspace`` has both ends. METHOD E16. Raises `UserError` unless
    ``steps`` is between 1 and 1000.
    """
    if not 1 <= steps <= NUM_TIMESTEPS:
        raise UserError(f"the number of sampling steps must be between 1 and {NUM_TIMESTEPS}, found {steps}")
    stride = NUM_TIMESTEPS / steps
    if spacing == "trailing":
        timesteps = (NUM_TIMESTEPS - torch.arange(steps) * stride).round() - 1
    elif spacing == "leading":
        offset = int(steps < NUM_TIMESTEPS)
        timesteps = torch.arange(steps).flip(0) * math.floor(stride) + offset
    else:
        timesteps = torch.linspace(0, NUM_TIMESTEPS - 1, steps).round().flip(0)
    return torch.cat([log_snr_of_timestep(timesteps), torch.tensor([torch.inf])])


def own_points(num: int, steps: int) -> tuple[int, ...]:
    """Places of the ``steps + 1`` grid points of a coarser flow among the ``num + 1`` of the master grid.

    The first and the last are shared, the others spread evenly (METHOD E16). Raises `UserError` for more steps than
    the master grid has.
    """
    if not 1 <= steps <= num:
        raise UserError(f"a flow takes between 1 and the master grid's {num} steps, found {steps}")
    return tuple(round(point * num / steps) for point in range(steps + 1))


Half = Literal["prompted", "null"]
At = Mapping[str, tuple[Tensor, Tensor]]


@torch.no_grad()
def sample_jointly(
    outputs: Mapping[str, Output],
    given: Mapping[str, Given],
    *,
    seed: int,
    indices: Sequence[int],
    sampler: SamplerChoice,
    couple: Couple | None = None,
    partner_of: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Scaled latents of all outputs, ``batch channel *space`` by name (METHOD E16).

    ``indices`` number the samples, the rows of every conditioning and given latent: noise of sample ``i`` depends on
    (seed, i, name, step) alone (METHOD F6). ``couple``: partners that an output listens to, all where left out; an
    output that it does not name listens to nobody. ``partner_of``: per row, the row whose partners it hears. Each
    output brings its own scale, ``sampler.scale`` is not used.
    Raises `UserError` for partners that do not take part, and for rows that do not fit.
    """
    names, heard = tuple(outputs), listeners(outputs, given, couple)
    _refuse_rows(outputs, given, len(indices))
    fixed = {name: partner.told() for name, partner in given.items()}

    def noise(flow: int, step: int | str) -> Tensor:
        name, output = names[flow], outputs[names[flow]]
        drawn = sample_noise(seed, indices, name, step, output.denoiser.latent_shape)
        return drawn.to(output.null.prompt.device)

    def predict(latents: Latents, levels: tuple[Tensor, ...], due: tuple[int, ...]) -> tuple[Tensor, ...]:
        at = dict(zip(names, zip(latents, levels, strict=True), strict=True))
        wanted = [names[flow] for flow in due]
        told = current_contexts(outputs, at, {sender for name in wanted for sender in heard[name]})
        contexts = {name: context_of(context, partner_of) for name, context in {**told, **fixed}.items()}
        return tuple(joint_noise(outputs, heard, contexts, at, wanted).values())

    latents = solve(
        predict,
        tuple(noise(flow, "start") for flow in range(len(names))),
        master_grid(sampler.steps),
        noise,
        solver=sampler.solver,
        eta=sampler.eta,
        points=[own_points(sampler.steps, output.steps or sampler.steps) for output in outputs.values()],
    )
    return dict(zip(names, latents, strict=True))


def context_of(context: Context, rows: Sequence[int] | None) -> Context:
    """The context with the rows of other samples in place of its own; as it is where ``rows`` is ``None``."""
    if rows is None:
        return context
    order = list(rows)
    return replace(
        context,
        tokens=context.tokens[order],
        mask=context.mask[order],
        position_mm=context.position_mm[order],
        axes=context.axes[order],
    )


def current_contexts(outputs: Mapping[str, Output], at: At, senders: Collection[str]) -> dict[str, Context]:
    """What outputs among ``senders`` tell of their latents at their levels (METHOD E13, F1)."""
    told = {}
    for name, output in outputs.items():
        if name in senders and output.environment is not None:
            z, level = at[name]
            clean = torch.zeros(len(z), dtype=torch.bool, device=z.device)
            told[name] = output.environment(z, level.expand(len(z)), clean)
    return told


def joint_noise(
    outputs: Mapping[str, Output],
    heard: Mapping[str, Collection[str]],
    told: Mapping[str, Context],
    at: At,
    due: Collection[str],
) -> dict[str, Tensor]:
    """The guided noise of the flows in ``due`` (METHOD E6, E16); ``at`` latent and level (scalar) of every flow.

    Both guidance halves of a flow are at one latent, so what it ``told`` serves both.
    """
    halves: dict[Half, dict[str, Tensor]] = {}
    for half in ("prompted", "null"):
        wanted = [name for name in due if _needs(outputs[name].scale, half)]
        halves[half] = half_noise(outputs, heard, told, at, wanted, half)
    return {name: _guided(outputs[name].scale, halves, name) for name in due}


def half_noise(
    outputs: Mapping[str, Output],
    heard: Mapping[str, Collection[str]],
    told: Mapping[str, Context],
    at: At,
    due: Collection[str],
    half: Half,
) -> dict[str, Tensor]:
    """The noise of one guidance half, which knows nothing of the other half of any flow (METHOD E16)."""
    predicted = {}
    for name in due:
        z, level = at[name]
        contexts = [told[sender] for sender in heard[name] if sender != name]
        conditioning = outputs[name].prompted if half == "prompted" else outputs[name].null
        conditioning = replace(conditioning, context=joined(contexts) if contexts else None)
        predicted[name] = outputs[name].denoiser(z, level.expand(len(z)), conditioning)
    return predicted


def _needs(scale: float, half: Half) -> bool:
    return scale != 0 if half == "prompted" else scale != 1


def _guided(scale: float, halves: Mapping[Half, Mapping[str, Tensor]], name: str) -> Tensor:
    """Classifier-free guidance; at scale 1 and 0 one half is enough."""
    if scale in (0, 1):
        return halves["prompted" if scale else "null"][name]
    return guided(halves["null"][name], halves["prompted"][name], scale)


def _refuse_rows(outputs: Mapping[str, Output], given: Mapping[str, Given], rows: int) -> None:
    found = {name: len(half.prompt) for name, output in outputs.items() for half in (output.prompted, output.null)}
    found |= {name: len(partner.latent) for name, partner in given.items()}
    wrong = {name: number for name, number in found.items() if number != rows}
    if not outputs or wrong:
        shown = ", ".join(f"'{name}' has {number}" for name, number in wrong.items()) or "no output"
        raise UserError(f"joint sampling of {rows} samples: {shown}; give every output and partner {rows} rows")
