"""Do generated images look like real ones, and as varied? Fréchet distance, KID, coverage and their kin (method 6).

Images are compared by the features of a finding classifier that sees brightness and contrast.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.evaluate.bootstrap import ConfidenceInterval, bootstrap, mean_interval
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import PROMPTED, UNPROMPTED, TestSet, joined

NEIGHBOURS = 5  # Naeem et al. 2020
FEWEST = 2 * NEIGHBOURS
_RESAMPLES = 200  # of the Fréchet distance, which takes two eigen-decompositions each


def fidelity_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield distances of generated images from real ones, beside those of reconstructions and of other real images.

    All sets are of one size, as far as there are studies, because the Fréchet distance and coverage depend on it.
    """
    ways = test_set.joint_ways()
    way = PROMPTED if PROMPTED in ways else UNPROMPTED
    for name in test_set.grids:
        rows = [row for row, index in enumerate(test_set.joint_indices) if test_set.studies.records[index].has(name)]
        if len(rows) < FEWEST or not test_set.can_classify(name) or name not in ways[way]:
            continue
        indices = [test_set.joint_indices[row] for row in rows]
        real = test_set.features(name, test_set.data(name, indices))
        others = {
            "reconstructed": test_set.features(name, joined(test_set.reconstructed(name, indices))),
            way: test_set.features(name, joined(ways[way][name])[rows]),
        }
        if len(strangers := _other_patients(test_set, name, indices)) >= FEWEST:
            others["other real images"] = test_set.features(name, test_set.data(name, strangers))
        yield from _rows_of(test_set, name, real, others, indices)


def _other_patients(test_set: TestSet, name: str, indices: Sequence[int]) -> list[int]:
    """Return test studies of patients who are not among these, at most as many."""
    known = set(test_set.patients(indices))
    everyone = test_set.studies.indices_with(name)
    others = [
        index for index, patient in zip(everyone, test_set.patients(everyone), strict=True) if patient not in known
    ]
    return others[: len(indices)]


def _rows_of(
    test_set: TestSet, name: str, real: np.ndarray, others: Mapping[str, np.ndarray], indices: Sequence[int]
) -> Iterator[MetricRow]:
    patients, seed = test_set.patients(indices), test_set.seed
    size, width = real.shape
    few = f"{size} images, fewer than its {width} dimensions: too large for all ways alike" if size <= width else ""
    for way, features in others.items():
        paired = patients if way != "other real images" else None
        key = f"{way}/{name}"
        distance = frechet_interval(real, features, patients=paired, seed=seed)
        yield metric_row(f"{name}: Fréchet distance, {way}", distance, few, key=f"frechet/{key}")
        yield metric_row(f"{name}: KID, {way}", kid_interval(real, features, patients=paired, seed=seed))
        known, made = patients, patients if paired else None
        for what, (values, owners) in neighbour_rates(real, features).named(known, made).items():
            yield metric_row(f"{name}: {what}, {way}", mean_interval(values, owners, seed=seed), key=f"{what}/{key}")


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Fréchet distance of Gaussians fitted to features ``sample feature`` (Heusel et al. 2017, Eq. 6).

    |m1 - m2|² + tr(C1 + C2 - 2 (C1^½ C2 C1^½)^½). Both roots are of symmetric matrices, by eigen-decomposition.
    """
    gap = first.mean(0) - second.mean(0)
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (first, second)]
    root = _symmetric_root(covariances[0])
    cross = np.linalg.eigvalsh(root @ covariances[1] @ root)
    traces = np.trace(covariances[0]) + np.trace(covariances[1])
    return float(gap @ gap + traces - 2 * np.sqrt(cross.clip(min=0)).sum())


def _symmetric_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def frechet_interval(
    first: np.ndarray, second: np.ndarray, *, patients: Sequence[Hashable] | None = None, seed: int = 0
) -> ConfidenceInterval:
    """Return the Fréchet distance with the width of its bootstrap interval around the value, not below 0.

    A resample repeats images, which makes every distance larger: the percentiles are shifted so that their median is
    the value. ``patients`` given: the rows of both sets are the same studies, resampled together. Otherwise each set is
    resampled.
    """
    distances: list[float] = []

    def statistic(rows: np.ndarray) -> float:
        chosen = first[rows[rows < len(first)]], second[_partner_rows(rows, first, patients)]
        distances.append(frechet_distance(*chosen))
        return distances[-1]

    num = len(first) if patients is not None else len(first) + len(second)
    interval = bootstrap(statistic, num, patients=patients, resamples=_RESAMPLES, seed=seed)
    shift = interval.value - float(np.median(distances))
    return replace(interval, low=max(0.0, interval.low + shift), high=interval.high + shift)


def _partner_rows(rows: np.ndarray, first: np.ndarray, patients: Sequence[Hashable] | None) -> np.ndarray:
    """Return the rows of the second set: the same, or those numbered after the rows of the first."""
    return rows if patients is not None else rows[rows >= len(first)] - len(first)


def kid(first: np.ndarray, second: np.ndarray) -> float:
    """Return the unbiased kernel distance MMD² of features ``sample feature`` (Bińkowski et al. 2018, Eq. 4)."""
    everyone = np.concatenate([first, second])
    return _mmd(polynomial_kernel(everyone, everyone), np.arange(len(first)), np.arange(len(first), len(everyone)))


def polynomial_kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return (x·y / d + 1)³ for all pairs, ``sample sample``; d features."""
    return (first @ second.T / first.shape[1] + 1) ** 3


def kid_interval(
    first: np.ndarray, second: np.ndarray, *, patients: Sequence[Hashable] | None = None, seed: int = 0
) -> ConfidenceInterval:
    """Return `kid` with its interval; ``patients`` as in `frechet_interval`."""
    everyone = np.concatenate([first, second])
    kernel = polynomial_kernel(everyone, everyone)
    return bootstrap(
        lambda rows: _mmd(kernel, rows[rows < len(first)], len(first) + _partner_rows(rows, first, patients)),
        len(first) if patients is not None else len(everyone),
        patients=patients,
        seed=seed,
    )


def _mmd(kernel: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Return MMD² of two sets of rows; an image beside itself, or beside its repetition, does not count."""

    def within(rows: np.ndarray) -> float:
        differ = rows[:, None] != rows
        return float((kernel[np.ix_(rows, rows)] * differ).sum() / differ.sum()) if differ.any() else float("nan")

    return within(first) + within(second) - 2 * float(kernel[np.ix_(first, second)].mean())


@dataclass(frozen=True, kw_only=True)
class NeighbourRates:
    """Rates by sample (Naeem et al. 2020, Eqs. 3 to 8); their means are the metrics.

    ``coverage`` and ``recall`` are of real samples, ``density`` and ``precision`` of generated ones.
    """

    coverage: np.ndarray
    recall: np.ndarray
    density: np.ndarray
    precision: np.ndarray

    def named(
        self, real: Sequence[Hashable] | None, made: Sequence[Hashable] | None
    ) -> dict[str, tuple[np.ndarray, Sequence[Hashable] | None]]:
        """Return every rate by name, with the patients of its samples."""
        of_real = {"coverage": (self.coverage, real), "recall": (self.recall, real)}
        return {**of_real, "density": (self.density, made), "precision": (self.precision, made)}


def neighbour_rates(real: np.ndarray, made: np.ndarray, *, k: int = NEIGHBOURS) -> NeighbourRates:
    """Compare features ``sample feature`` by balls that reach from a sample to its k-th neighbour in its own set."""
    between = _distances(real, made)
    in_real = between < _radii(real, k)[:, None]  # of real sample i and generated sample j: is j in the ball of i?
    in_made = between < _radii(made, k)[None]
    return NeighbourRates(
        coverage=in_real.any(1).astype(float),
        recall=in_made.any(1).astype(float),
        density=in_real.sum(0) / k,
        precision=in_real.any(0).astype(float),
    )


def _radii(features: np.ndarray, k: int) -> np.ndarray:
    """Return the distance of every sample from its k-th nearest neighbour."""
    return np.partition(_distances(features, features), k, axis=1)[:, k]  # the nearest is the sample itself


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first[:, None] - second[None], axis=2)
