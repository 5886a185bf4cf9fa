"""Does a partner improve denoising, and only the partner of the same patient? (method F1, F4)

The mean squared error of the prediction is compared between three kinds of partner: the same patient's, another
patient's, and none. On validation studies this decides by default which outputs are coupled; on test studies it gives
the coupling matrix of the table.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, permutations
from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_rel
from torch import Tensor

from core.data.cohort import Cohort
from core.data.studies import Studies
from core.diffuse.objective import Diffusion, noised
from core.evaluate.bootstrap import (
    ConfidenceInterval,
    can_mismatch,
    groups,
    mean_interval,
    mismatched_patients,
    patients_of,
    sample_studies,
)
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet
from core.generate.bundle import Bundle, CouplingDecision
from core.generate.guidance import stacked_contexts
from core.generate.joint_sampling import context_of, sample_noise
from core.generate.pipeline import conditionings, encoded_latent
from core.guide.losses import FlowState, Noisy, cross_guidance_mse, encode_context, flow_rows, noisy_rows
from core.nn import log_snr_of_timestep
from core.types import Context

TIMESTEPS = (200, 500, 800)


def coupling_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield for every ordered pair of outputs the MSE reduction against a mismatched patient, with the null prompt."""
    names = [name for name in test_set.run.outputs if test_set.bundle.coupled(name)]
    trained = {frozenset(pair) for pair in test_set.bundle.trained_pairs}
    for receiver, sender in permutations(names, 2):
        indices = test_set.comparable_indices(receiver, sender)
        if not indices:
            continue
        gains = coupling_gain(
            flow_state(test_set.bundle, test_set.studies, receiver, indices),
            flow_state(test_set.bundle, test_set.studies, sender, indices),
            TIMESTEPS,
            seed=test_set.seed,
            indices=indices,
            patients=test_set.patients(indices),
        )
        kind = "trained pair" if frozenset((receiver, sender)) in trained else "unseen pair"
        middle = gains[TIMESTEPS[1]]
        levels = ", ".join(
            f"at {step}: {gain.over_mismatched.value:+.4f} (t {gain.t:.1f})" for step, gain in gains.items()
        )
        what = f"{receiver} ← {sender}: reduction vs. mismatched patient, {kind}"
        yield metric_row(what, middle.over_mismatched, f"{levels}; vs. no partner {middle.over_alone.value:+.4f}")


def coupling_decisions(
    bundle: Bundle, cohort: Cohort, pairs: Iterable[tuple[str, str]]
) -> list[tuple[CouplingDecision, MetricRow]]:
    """Decide for both directions of every pair whether the partner is read by default; return decisions and rows.

    A partner is beneficial where the 95 % intervals of the relative MSE reduction, over noise levels and validation
    patients, lie above 0, both against no partner and against a mismatched patient. It is harmful where one of them
    lies below 0, and then it is not read. In between the error cannot tell: what two views share weighs little in it,
    and yet makes them views of one body (docs/decisions/0024). A pair that too few validation patients hold is left
    out: nothing is known of it.

    The context has weight 1 here, whatever the sampler's ``context_scale`` (method F8). A network that predicts a
    conditional mean has an error of ``sigma^2 + (s - 1)^2 delta^2`` at weight s, with delta^2 what the partner
    explains, and of ``sigma^2 + delta^2`` without it. So the reduction is greatest at 1, and from 2 on the error would
    speak against every partner, also one that guidance should amplify. At weight 1 it tells whether there is
    information to amplify; by how much is decided by what is generated.
    """
    directions = chain.from_iterable((pair, pair[::-1]) for pair in pairs)
    return [decision for direction in directions for decision in _decisions(bundle, cohort, *direction)]


def _decisions(
    bundle: Bundle, cohort: Cohort, receiver: str, sender: str
) -> Iterator[tuple[CouplingDecision, MetricRow]]:
    studies, seed = cohort.held_out, bundle.run.config.seed
    most = bundle.run.config.training.measure.samples
    indices = sample_studies(studies, sorted((receiver, sender)), most, seed, "listening")
    patients = patients_of(studies, indices)
    if not can_mismatch(patients):
        return
    alone, mismatched = relative_mse_reduction(
        flow_state(bundle, studies, receiver, indices),
        flow_state(bundle, studies, sender, indices),
        TIMESTEPS,
        seed=seed,
        indices=indices,
        patients=patients,
    )
    beneficial, harmful = min(alone.low, mismatched.low) > 0, min(alone.high, mismatched.high) < 0
    verdict = "harmful: disabled by default" if harmful else "beneficial" if beneficial else "no benefit shown"
    reference = (
        f"vs. mismatched patient {mismatched.value:+.4f} [{mismatched.low:.4f}, {mismatched.high:.4f}]; {verdict}"
    )
    what = f"{receiver} ← {sender}: relative MSE reduction vs. no partner, validation"
    row = MetricRow("guide", what, alone.value, reference, alone.low, alone.high)
    yield CouplingDecision(receiver, sender, not harmful), row


def flow_state(bundle: Bundle, studies: Studies, name: str, indices: Sequence[int]) -> FlowState:
    """Return the scaled latents of studies in one modality, with its networks and the null prompt."""
    bundle.sites(name)
    with torch.no_grad():
        latent = torch.cat([encoded_latent(bundle, name, batch) for batch in studies.batches(name, list(indices))])
        _, null = conditionings(bundle, name, {}, len(indices))
    return FlowState(
        latent=latent,
        denoiser=bundle.part(name, "denoiser").eval(),
        context_encoder=bundle.context_encoder(name).eval(),
        conditioning=null,
        diffusion=Diffusion.of(bundle.run.config.diffuse),
    )


@dataclass(frozen=True, kw_only=True)
class PartnerErrors:
    """Mean squared error of the prediction, float64 ``study``, with three kinds of partner.

    ``matched``: the same study's; ``mismatched``: another patient's; ``alone``: none.
    """

    matched: np.ndarray
    mismatched: np.ndarray
    alone: np.ndarray


@dataclass(frozen=True, kw_only=True)
class CouplingGain:
    """Mean relative MSE reduction by the matched partner, with a paired t test over patients.

    ``over_mismatched``: against another patient's partner, the coupling itself (method F1); ``over_alone``: against
    none. ``t`` and ``p`` (two-sided) are of mismatched - matched; 0 and 1 where both are equal everywhere.
    """

    over_mismatched: ConfidenceInterval
    over_alone: ConfidenceInterval
    t: float
    p: float


def coupling_gain(
    receiver: FlowState,
    sender: FlowState,
    timesteps: Iterable[int],
    *,
    seed: int,
    clean: bool = False,
    indices: Sequence[int] | None = None,
    patients: Sequence[Hashable] | None = None,
) -> dict[int, CouplingGain]:
    """Return the `CouplingGain` by timestep: one entry of the coupling matrix of all ordered pairs (method F4)."""
    return {
        timestep: summarised(
            partner_errors(receiver, sender, timestep, seed=seed, clean=clean, indices=indices, patients=patients),
            patients=patients,
            seed=seed,
        )
        for timestep in timesteps
    }


def relative_mse_reduction(
    receiver: FlowState,
    sender: FlowState,
    timesteps: Sequence[int],
    *,
    seed: int,
    indices: Sequence[int] | None = None,
    patients: Sequence[Hashable] | None = None,
) -> tuple[ConfidenceInterval, ConfidenceInterval]:
    """Return the relative MSE reduction by the matched partner, mean over levels: vs. none, and vs. a mismatched one.

    Only both together justify the coupling (method F1, F4). Against no partner, attention gains by its additional
    parameters too, whatever the partner, as long as the denoiser itself could still learn.
    """
    alone, mismatched = [], []
    for timestep in timesteps:
        errors = partner_errors(receiver, sender, timestep, seed=seed, indices=indices, patients=patients)
        alone.append(_reduction(errors.alone, errors.matched))
        mismatched.append(_reduction(errors.mismatched, errors.matched))
    over_alone, over_mismatched = (
        mean_interval(np.mean(levels, axis=0), patients, seed=seed) for levels in (alone, mismatched)
    )
    return over_alone, over_mismatched


def summarised(errors: PartnerErrors, *, patients: Sequence[Hashable] | None = None, seed: int = 0) -> CouplingGain:
    """Return the mean relative MSE reductions over the studies with their intervals by patient, and the paired t."""
    t, p = _paired_t(errors.mismatched, errors.matched, patients)
    over_mismatched, over_alone = (
        mean_interval(_reduction(without, errors.matched), patients, seed=seed)
        for without in (errors.mismatched, errors.alone)
    )
    return CouplingGain(over_mismatched=over_mismatched, over_alone=over_alone, t=t, p=p)


def _reduction(without: np.ndarray, matched: np.ndarray) -> np.ndarray:
    return (without - matched) / without


def _paired_t(first: np.ndarray, second: np.ndarray, patients: Sequence[Hashable] | None) -> tuple[float, float]:
    group, num = groups(len(first), patients)
    counts = np.bincount(group, minlength=num)
    mean_first, mean_second = (np.bincount(group, values, num) / counts for values in (first, second))
    if np.array_equal(mean_first, mean_second):
        return 0.0, 1.0
    result: Any = ttest_rel(mean_first, mean_second)
    return float(result.statistic), float(result.pvalue)


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
    """Return the errors of ``receiver`` at ``timestep`` with each kind of partner (method E13, F1).

    ``timestep`` of 1000 names a level of the papers' schedule, whatever the schedule of the run. All objectives have
    the same relative errors: at one level they differ by a factor (method E10).

    Both flows hold the same studies, row by row; ``indices`` number them (their rows where left out). The noise of
    study ``i`` depends on (seed, i, flow, timestep) alone, so that neither ``batch`` nor the other studies change it.
    The sender is at the same level, or without noise where ``clean``. Networks are used as they are: put them in
    evaluation mode. Raises `UserError` where there is no other patient.
    """
    num = len(receiver.latent)
    indices, mismatched = range(num) if indices is None else indices, mismatched_patients(num, patients)
    slices = [slice(start, start + batch) for start in range(0, num, batch)]
    received = _at_level(receiver.latent, timestep, seed, indices, "receiver", False)
    sent = _at_level(sender.latent, timestep, seed, indices, "sender", clean)
    contexts = stacked_contexts([encode_context(flow_rows(sender, rows), noisy_rows(sent, rows)) for rows in slices])

    def errors(context: Context | None) -> np.ndarray:
        parts = []
        for rows in slices:
            part = None if context is None else context_of(context, range(num)[rows])
            mse = cross_guidance_mse(flow_rows(receiver, rows), noisy_rows(received, rows), part)
            parts.append(mse.double().cpu())
        return torch.cat(parts).numpy()

    return PartnerErrors(
        matched=errors(contexts), mismatched=errors(context_of(contexts, mismatched)), alone=errors(None)
    )


def _at_level(z: Tensor, timestep: int, seed: int, indices: Sequence[int], flow: str, clean: bool) -> Noisy:
    """Return the scaled latent of every study with noise drawn for it, or as it is where ``clean`` (method E9, F3)."""
    level = log_snr_of_timestep(torch.full((len(z),), timestep)).to(z.device)
    noise = sample_noise(seed, indices, f"benefit {flow}", timestep, z.shape[1:]).to(z)
    is_clean = torch.full((len(z),), clean, device=z.device)
    return Noisy(latent=z if clean else noised(z, level, noise), noise=noise, level=level, clean=is_clean)
