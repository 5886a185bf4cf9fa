"""Does a partner help, and only the true one? The coupling of two flows, by noise level (METHOD F1, F4).

What partners tell each other: the benefit matrix (METHOD F1, F4).

Who listens to whom when nothing else is asked: those whom the partner helps on validation studies (METHOD F4).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, permutations
from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_rel
from torch import Tensor

from core.data.cohort import Cohort
from core.data.studies import Studies
from core.diffuse.objective import noised
from core.evaluate.bootstrap import Interval, drawn, groups, have_strangers, mean_interval, patients_of, strangers
from core.evaluate.table import Line, line
from core.evaluate.test_set import Subjects
from core.generate.bundle import Bundle, Listening
from core.generate.joint_sampling import context_of, sample_noise
from core.generate.pipeline import conditionings, encoded_latent
from core.guide.losses import FlowState, Noisy, cross_errors, told
from core.nn import log_snr_of_timestep
from core.types import Context


@dataclass(frozen=True, kw_only=True)
class PartnerErrors:
    """Mean squared error of the predicted noise, float64 ``study``, with three kinds of partner.

    ``true``: the same study's; ``other``: another patient's; ``alone``: none.
    """

    true: np.ndarray
    other: np.ndarray
    alone: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Benefit:
    """What the true partner saves, as a mean share of the error without it, with a paired t test over patients.

    ``over_other``: against another patient's partner, the coupling itself (METHOD F1); ``over_alone``: against none.
    ``t`` and ``p`` (two-sided) are of other - true; 0 and 1 where both are equal everywhere.
    """

    over_other: Interval
    over_alone: Interval
    t: float
    p: float


@torch.no_grad()
def partner_errors(
    receiver: FlowState,
    sender: FlowState,
    timestep: int,
    *,
    seed: int,
    clean: bool = False,
    indices: Sequence[int] | None = None,
    patients: Sequence[Hashable] | None = None,
    batch: int = 64,
) -> PartnerErrors:
    """Errors of ``receiver`` at ``timestep`` (of 1000) with the true partner, a stranger's and none (METHOD E13, F1).

    Both flows hold the same studies, row by row; ``indices`` number them (their rows where left out). The noise of
    study ``i`` depends on (seed, i, flow, timestep) alone, so that neither ``batch`` nor the other studies change it.
    The sender is at the same level, or without noise where ``clean``. Networks are used as they are: put them in
    evaluation mode. Raises `UserError` where there is no other patient.
    """
    num = len(receiver.latent)
    indices, other = range(num) if indices is None else indices, strangers(num, patients)
    rows = [slice(start, start + batch) for start in range(0, num, batch)]
    mine = _at(receiver.latent, timestep, seed, indices, "receiver", False)
    theirs = _at(sender.latent, timestep, seed, indices, "sender", clean)
    heard = _concatenated([told(_part(sender, some), _noisy(theirs, some)) for some in rows])

    def errors(context: Context | None) -> np.ndarray:
        parts = []
        for some in rows:
            own = None if context is None else context_of(context, range(num)[some])
            parts.append(cross_errors(_part(receiver, some), _noisy(mine, some), own).double().cpu())
        return torch.cat(parts).numpy()

    return PartnerErrors(true=errors(heard), other=errors(context_of(heard, other)), alone=errors(None))


def benefit(
    receiver: FlowState,
    sender: FlowState,
    timesteps: Iterable[int],
    *,
    seed: int,
    clean: bool = False,
    indices: Sequence[int] | None = None,
    patients: Sequence[Hashable] | None = None,
) -> dict[int, Benefit]:
    """`Benefit` by timestep, on held-out studies; one entry of the benefit matrix of all ordered pairs (METHOD F4)."""
    return {
        timestep: summarised(
            partner_errors(receiver, sender, timestep, seed=seed, clean=clean, indices=indices, patients=patients),
            patients=patients,
            seed=seed,
        )
        for timestep in timesteps
    }


def savings(
    receiver: FlowState,
    sender: FlowState,
    timesteps: Sequence[int],
    *,
    seed: int,
    indices: Sequence[int] | None = None,
    patients: Sequence[Hashable] | None = None,
) -> tuple[Interval, Interval]:
    """The share of the error that the true partner saves, mean over levels: beside none, and beside a stranger's.

    Only both together are a reason to listen (METHOD F1, F4): attention gains beside none by its own parameters too,
    whatever it hears, as long as the denoiser itself could still learn.
    """
    none, other = [], []
    for timestep in timesteps:
        errors = partner_errors(receiver, sender, timestep, seed=seed, indices=indices, patients=patients)
        none.append((errors.alone - errors.true) / errors.alone)
        other.append((errors.other - errors.true) / errors.other)
    beside_none, beside_other = (mean_interval(np.mean(each, axis=0), patients, seed=seed) for each in (none, other))
    return beside_none, beside_other


def summarised(errors: PartnerErrors, *, patients: Sequence[Hashable] | None = None, seed: int = 0) -> Benefit:
    """The mean of (without - true) / without over the studies, with its interval by patient, and the paired t."""
    t, p = _paired_t(errors.other, errors.true, patients)
    over = [mean_interval((one - errors.true) / one, patients, seed=seed) for one in (errors.other, errors.alone)]
    return Benefit(over_other=over[0], over_alone=over[1], t=t, p=p)


def _paired_t(first: np.ndarray, second: np.ndarray, patients: Sequence[Hashable] | None) -> tuple[float, float]:
    group, num = groups(len(first), patients)
    counts = np.bincount(group, minlength=num)
    one, other = (np.bincount(group, values, num) / counts for values in (first, second))
    if np.array_equal(one, other):
        return 0.0, 1.0
    found: Any = ttest_rel(one, other)
    return float(found.statistic), float(found.pvalue)


def _at(z: Tensor, timestep: int, seed: int, indices: Sequence[int], flow: str, clean: bool) -> Noisy:
    """The scaled latent of every study with its own noise, or as it is where ``clean`` (METHOD E9, F3, F6)."""
    level = log_snr_of_timestep(torch.full((len(z),), timestep)).to(z.device)
    noise = sample_noise(seed, indices, f"benefit {flow}", timestep, z.shape[1:]).to(z)
    is_clean = torch.full((len(z),), clean, device=z.device)
    return Noisy(latent=z if clean else noised(z, level, noise), noise=noise, level=level, clean=is_clean)


def _noisy(noisy: Noisy, rows: slice) -> Noisy:
    return Noisy(**{field.name: getattr(noisy, field.name)[rows] for field in fields(noisy)})


def _part(flow: FlowState, rows: slice) -> FlowState:
    """Some studies of a flow, with their prompts."""
    whole = flow.conditioning
    mask, pooled = (None if value is None else value[rows] for value in (whole.prompt_mask, whole.pooled))
    some = replace(whole, prompt=whole.prompt[rows], prompt_mask=mask, pooled=pooled)
    return replace(flow, latent=flow.latent[rows], conditioning=some)


def _concatenated(parts: Sequence[Context]) -> Context:
    """The contexts of several batches of studies as one."""
    return Context(
        **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Context)}
    )


def benefits(subjects: Subjects) -> Iterator[Line]:
    """For every ordered pair of outputs the share of the error that the true partner saves, with the null prompt."""
    names = [name for name in subjects.run.outputs if subjects.bundle.coupled(name)]
    met = {frozenset(pair) for pair in subjects.bundle.trained_pairs}
    for receiver, sender in permutations(names, 2):
        places = subjects.enough(receiver, sender)
        if not places:
            continue
        found = benefit(
            flow_state(subjects.bundle, subjects.studies, receiver, places),
            flow_state(subjects.bundle, subjects.studies, sender, places),
            TIMESTEPS,
            seed=subjects.seed,
            indices=places,
            patients=subjects.patients(places),
        )
        kind = "trained" if frozenset((receiver, sender)) in met else "zero-shot"
        middle = found[TIMESTEPS[1]]
        beside = ", ".join(f"at {step}: {one.over_other.value:+.4f} (t {one.t:.1f})" for step, one in found.items())
        what = f"{receiver} told by {sender}: error saved by the true partner, {kind}"
        yield line(what, middle.over_other, f"{beside}; beside none {middle.over_alone.value:+.4f}")


TIMESTEPS = (200, 500, 800)


def listenings(bundle: Bundle, cohort: Cohort, pairs: Iterable[tuple[str, str]]) -> list[tuple[Listening, Line]]:
    """For both directions of every pair, whether the true partner lowers the error, and the table's line.

    It helps where the 95 % intervals of the share that it saves, over noise levels and validation patients, lie above
    0, beside no partner and beside another patient's. A pair that fewer than two validation patients hold is left
    out: nothing is known of it.
    """
    both = chain.from_iterable((pair, pair[::-1]) for pair in pairs)
    return [found for one in both for found in _listening(bundle, cohort, *one)]


def _listening(bundle: Bundle, cohort: Cohort, receiver: str, sender: str) -> Iterable[tuple[Listening, Line]]:
    studies, seed = cohort.held_out, bundle.run.config.seed
    most = bundle.run.config.training.measure.samples
    places = drawn(studies, sorted((receiver, sender)), most, seed, "listening")
    who = patients_of(studies, places)
    if not have_strangers(who):
        return
    none, other = savings(
        flow_state(bundle, studies, receiver, places),
        flow_state(bundle, studies, sender, places),
        TIMESTEPS,
        seed=seed,
        indices=places,
        patients=who,
    )
    helps = none.low > 0 and other.low > 0
    verdict = "helps" if helps else "not shown to help: not listened to, unless asked"
    beside = f"beside another's {other.value:+.4f} [{other.low:.4f}, {other.high:.4f}]; {verdict}"
    what = f"{receiver} listens to {sender}: error saved beside no partner, validation"
    yield Listening(receiver, sender, helps), Line("guide", what, none.value, beside, none.low, none.high)


def flow_state(bundle: Bundle, studies: Studies, name: str, places: Sequence[int]) -> FlowState:
    """A modality of studies on its way, with the null prompt."""
    bundle.sites(name)
    with torch.no_grad():
        latent = torch.cat([encoded_latent(bundle, name, batch) for batch in studies.batches(name, list(places))])
        _, null = conditionings(bundle, name, {}, len(places))
    return FlowState(
        latent=latent,
        denoiser=bundle.part(name, "denoiser").eval(),
        environment=bundle.environment(name).eval(),
        conditioning=null,
    )
