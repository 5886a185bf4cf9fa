"""Intervals of measures: whole patients are resampled, since the studies of one are not independent (METHOD 6).

A stranger for every sample: a sample of another patient, for the floors of paired measures.

Studies to measure on: drawn alike for every measure, and enough patients to compare with each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from core.data.studies import Studies
from core.engine.rng import make_generator
from core.errors import UserError

RESAMPLES, LEVEL = 1000, 0.95
_CHUNK = 2**22  # patients drawn at a time


@dataclass(frozen=True)
class ConfidenceInterval:
    """A measure and its interval. ``left_out``: resamples in which it has no value, e.g. a class without positives."""

    value: float
    low: float
    high: float
    left_out: int = 0

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    num: int,
    *,
    patients: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> ConfidenceInterval:
    """Percentile bootstrap of ``statistic(rows)``, ``rows`` an index array into ``num`` samples.

    As many patients as there are are drawn with replacement, each with all their samples; without ``patients`` every
    sample is a patient. Resamples whose statistic is NaN are left out and counted.
    """
    rows = _rows_by_patient(num, patients)
    single = len(rows) == num
    found = []
    for draw in _draws(len(rows), resamples, seed):
        # With one sample per patient the drawn patients are the rows.
        found += [statistic(one if single else np.concatenate([rows[patient] for patient in one])) for one in draw]
    return _percentiles(float(statistic(np.arange(num))), np.array(found, dtype=np.float64), level)


def mean_interval(
    values: ArrayLike,
    patients: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> ConfidenceInterval:
    """`bootstrap` of the mean of ``values`` ``sample``, all resamples at once. NaN values are unknown and left out."""
    values = np.asarray(values, dtype=np.float64)
    group, num_patients = groups(len(values), patients)
    known = ~np.isnan(values)
    sums = np.bincount(group[known], values[known], num_patients)
    counts = np.bincount(group[known], minlength=num_patients)
    found = [_ratio(sums[draw].sum(1), counts[draw].sum(1)) for draw in _draws(num_patients, resamples, seed)]
    value = float(_ratio(sums.sum(keepdims=True), counts.sum(keepdims=True))[0])
    return _percentiles(value, np.concatenate(found), level)


def paired_interval(
    difference: ArrayLike,
    patients: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> ConfidenceInterval:
    """The mean of paired differences ``sample``, one row per sample measured twice: `mean_interval` of them.

    A difference of which one side is unknown (NaN) is left out.
    """
    return mean_interval(difference, patients, resamples=resamples, seed=seed, level=level)


def groups(num: int, patients: Sequence[Hashable] | None) -> tuple[np.ndarray, int]:
    """The patient number of each sample, in the order of their first sample, and how many patients there are."""
    if patients is None:
        patients = range(num)
    if len(patients) != num or num == 0:
        raise ValueError(f"one patient per sample, and one sample or more: found {len(patients)} for {num} samples")
    number = {patient: index for index, patient in enumerate(dict.fromkeys(patients))}
    return np.array([number[patient] for patient in patients]), len(number)


def _rows_by_patient(num: int, patients: Sequence[Hashable] | None) -> list[np.ndarray]:
    group, num_patients = groups(num, patients)
    order = np.argsort(group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group, minlength=num_patients))[:-1])


def _draws(num: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Drawn patients ``resample patient``, in pieces; the same for the same seed and number of patients."""
    draws = make_generator(seed, "evaluate", "bootstrap")
    piece = max(1, _CHUNK // num)
    for start in range(0, resamples, piece):
        yield torch.randint(0, num, (min(piece, resamples - start), num), generator=draws).numpy()


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means; NaN where nothing was counted."""
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _percentiles(value: float, found: np.ndarray, level: float) -> ConfidenceInterval:
    known = found[~np.isnan(found)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if len(known) else (np.nan, np.nan)
    return ConfidenceInterval(value, float(low), float(high), len(found) - len(known))


def mismatched_patients(num: int, patients: Sequence[Hashable] | None = None) -> list[int]:
    """For every sample the place of another patient's; each is used once, and nothing is drawn.

    Samples are put in the order of their patients and turned by the size of the largest one: without ``patients`` each
    gets the sample before it. Raises `UserError` where one patient has more than half of the samples.
    """
    group, _ = groups(num, patients)
    most = int(np.bincount(group).max())
    if 2 * most > num:
        raise UserError(f"{most} of {num} samples are of one patient: there are too few of others to compare with")
    order = np.argsort(group, kind="stable")
    index = np.empty(num, dtype=np.int64)
    index[order] = np.roll(order, most)
    return index.tolist()


def sample_studies(studies: Studies, names: Sequence[str], most: int, seed: int, purpose: str) -> list[int]:
    """Places of studies that hold all of these, at most ``most``, drawn from all data sets alike; in their order."""
    found = studies.indices_with(*names)
    order = torch.randperm(len(found), generator=make_generator(seed, purpose, *names)).tolist()
    return sorted(found[index] for index in order[:most])


def patients_of(studies: Studies, indices: Sequence[int]) -> list[Hashable]:
    """Who they are: two data sets may use one name for two patients."""
    return [(studies.records[index].dataset, studies.records[index].patient) for index in indices]


def interleave_patients(indices: Sequence[int], patients: Sequence[Hashable], size: int) -> list[int]:
    """The places dealt patient by patient into batches of at most ``size``, one batch after the other.

    Studies of one patient stand together in a data set, so that a batch of neighbours might hold nobody else.
    """
    first = {patient: index for index, patient in reversed([*enumerate(patients)])}
    order = sorted(range(len(indices)), key=lambda index: (first[patients[index]], index))
    num = max(1, -(-len(indices) // size))
    return [indices[index] for batch in range(num) for index in order[batch::num]]


def can_mismatch(patients: Sequence[Hashable]) -> bool:
    """Whether everyone has a stranger: two patients at least, and none with more than half of the studies."""
    return len(patients) >= 2 and 2 * max(Counter(patients).values()) <= len(patients)
