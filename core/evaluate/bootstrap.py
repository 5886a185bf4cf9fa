"""Confidence intervals by patient, and the samples of studies that are compared.

The studies of one patient are not independent, so whole patients are resampled (method 6).
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
    """A metric with its confidence interval.

    ``left_out`` counts the resamples in which the metric has no value, e.g. because a class has no positives.
    """

    value: float
    low: float
    high: float
    left_out: int = 0

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def excludes_zero(self) -> bool:
        """Return whether the whole interval lies on one side of 0."""
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
    """Return the percentile bootstrap of ``statistic(rows)``, where ``rows`` is an index array into ``num`` samples.

    Each resample draws as many patients as there are, with replacement, and takes all samples of each. Without
    ``patients`` every sample counts as a patient. Resamples whose statistic is NaN are left out and counted.
    """
    rows = _rows_by_patient(num, patients)
    single = len(rows) == num
    values = []
    for resample in _resamples(len(rows), resamples, seed):
        # With one sample per patient the drawn patients are the rows.
        values += [
            statistic(drawn if single else np.concatenate([rows[patient] for patient in drawn])) for drawn in resample
        ]
    return _percentiles(float(statistic(np.arange(num))), np.array(values, dtype=np.float64), level)


def mean_interval(
    values: ArrayLike,
    patients: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> ConfidenceInterval:
    """Return the `bootstrap` of the mean of ``values`` ``sample``, computed for all resamples at once.

    NaN values are unknown and left out.
    """
    values = np.asarray(values, dtype=np.float64)
    group, num_patients = groups(len(values), patients)
    known = ~np.isnan(values)
    sums = np.bincount(group[known], values[known], num_patients)
    counts = np.bincount(group[known], minlength=num_patients)
    means = [_ratio(sums[drawn].sum(1), counts[drawn].sum(1)) for drawn in _resamples(num_patients, resamples, seed)]
    value = float(_ratio(sums.sum(keepdims=True), counts.sum(keepdims=True))[0])
    return _percentiles(value, np.concatenate(means), level)


def paired_interval(
    difference: ArrayLike,
    patients: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> ConfidenceInterval:
    """Return the `mean_interval` of paired differences ``sample``, one for each sample that was measured twice.

    A difference of which one side is unknown (NaN) is left out.
    """
    return mean_interval(difference, patients, resamples=resamples, seed=seed, level=level)


def groups(num: int, patients: Sequence[Hashable] | None) -> tuple[np.ndarray, int]:
    """Return the patient number of each sample, in the order of their first sample, and the number of patients."""
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


def _resamples(num: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield drawn patients ``resample patient`` in chunks; the same seed and number of patients give the same draws."""
    generator = make_generator(seed, "evaluate", "bootstrap")
    size = max(1, _CHUNK // num)
    for start in range(0, resamples, size):
        yield torch.randint(0, num, (min(size, resamples - start), num), generator=generator).numpy()


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return means; NaN where nothing was counted."""
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _percentiles(value: float, values: np.ndarray, level: float) -> ConfidenceInterval:
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if len(known) else (np.nan, np.nan)
    return ConfidenceInterval(value, float(low), float(high), len(values) - len(known))


def sample_studies(studies: Studies, names: Sequence[str], most: int, seed: int, purpose: str) -> list[int]:
    """Return the indices of at most ``most`` studies that hold all of ``names``, in ascending order.

    They are drawn from all data sets alike, and the same for every metric of a ``purpose``.
    """
    candidates = studies.indices_with(*names)
    order = torch.randperm(len(candidates), generator=make_generator(seed, purpose, *names)).tolist()
    return sorted(candidates[position] for position in order[:most])


def patients_of(studies: Studies, indices: Sequence[int]) -> list[Hashable]:
    """Return the patient of each study. Two data sets may use one name for two patients, so both are given."""
    return [(studies.records[index].dataset, studies.records[index].patient) for index in indices]


def interleave_patients(indices: Sequence[int], patients: Sequence[Hashable], size: int) -> list[int]:
    """Return the indices dealt patient by patient into batches of at most ``size``, one batch after the other.

    The studies of one patient are neighbours in a data set, so that a plain batch might hold a single patient.
    """
    first = {patient: position for position, patient in reversed([*enumerate(patients)])}
    order = sorted(range(len(indices)), key=lambda position: (first[patients[position]], position))
    num = max(1, -(-len(indices) // size))
    return [indices[position] for batch in range(num) for position in order[batch::num]]


def mismatched_patients(num: int, patients: Sequence[Hashable] | None = None) -> list[int]:
    """Return for every sample the row of a sample of another patient; each is used once, and nothing is drawn.

    Samples are put in the order of their patients and rotated by the size of the largest patient. Without ``patients``
    each sample gets the one before it. Raises `UserError` where one patient has more than half of the samples.
    """
    group, _ = groups(num, patients)
    most = int(np.bincount(group).max())
    if 2 * most > num:
        raise UserError(f"{most} of {num} samples are of one patient: there are too few of others to compare with")
    order = np.argsort(group, kind="stable")
    row = np.empty(num, dtype=np.int64)
    row[order] = np.roll(order, most)
    return row.tolist()


def can_mismatch(patients: Sequence[Hashable]) -> bool:
    """Return whether every sample can be paired with another patient's.

    It takes two patients or more, of whom none has more than half of the samples.
    """
    return len(patients) >= 2 and 2 * max(Counter(patients).values()) <= len(patients)
