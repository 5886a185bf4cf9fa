"""Are generated images as bright as real ones, and do they differ as much from each other? (method 6)

Brightness and the 99.5 percentile are fractions of full scale, soft tissue is in Hounsfield units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from torch import Tensor

from core.evaluate.bootstrap import bootstrap, paired_interval
from core.evaluate.images.outline import body_masks
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet, joined
from core.types import LABEL_UNITS, DataSpec

SOFT_TISSUE_HU = (-150.0, 150.0)
PERCENTILE = 99.5
FEWEST = 8  # studies, of which a spread is measured


class _Sides(NamedTuple):
    """A statistic ``sample`` of real and of other images of the same studies, and their patients."""

    real: np.ndarray
    other: np.ndarray
    patients: Sequence[object]


def intensity_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield spread of brightness, 99.5 percentile and soft tissue of reconstructed and generated images beside real."""
    ways = test_set.joint_ways()
    for name in test_set.grids:
        spec = test_set.run.parts(name).data
        rows = [row for row, index in enumerate(test_set.joint_indices) if test_set.studies.records[index].has(name)]
        if len(rows) < FEWEST or spec.units == LABEL_UNITS:
            continue
        indices = [test_set.joint_indices[row] for row in rows]
        others = {"reconstructed": joined(test_set.reconstructed(name, indices))}
        others |= {way: joined(batches[name])[rows] for way, batches in ways.items() if name in batches}
        yield from _rows_of(test_set, name, indices, others)


def _rows_of(test_set: TestSet, name: str, indices: Sequence[int], others: Mapping[str, Tensor]) -> Iterator[MetricRow]:
    spec, patients, seed = test_set.run.parts(name).data, test_set.patients(indices), test_set.seed
    data = test_set.data(name, indices)
    statistics: dict[str, Callable[[Tensor], np.ndarray]] = {"brightness": brightness}
    if spec.units == "HU":
        statistics["soft tissue, HU"] = partial(soft_tissue_hu, spec=spec)
    for what, statistic in statistics.items():
        real = statistic(data)
        for way, images in others.items():
            sides = _Sides(real, statistic(images), patients)
            key = f"spread of {what}/{way}/{name}"
            yield _spread_row(f"{name}: {what}, spread between studies beside real, {way}", sides, seed, key)
            yield _mean_row(f"{name}: {what}, mean minus real, {way}", sides, seed)
    for way, images in others.items():
        sides = _Sides(percentile(data), percentile(images), patients)
        yield _mean_row(f"{name}: {PERCENTILE} percentile, mean minus real, {way}", sides, seed)


def brightness(data: Tensor) -> np.ndarray:
    """Return the mean of each canonical image as a fraction of full scale, float64 ``sample``."""
    return (data.double().flatten(1).mean(1).numpy() + 1) / 2


def percentile(data: Tensor) -> np.ndarray:
    """Return the 99.5 percentile of each canonical image as a fraction of full scale, float64 ``sample``."""
    return (np.percentile(data.double().flatten(1).numpy(), PERCENTILE, axis=1) + 1) / 2


def soft_tissue_hu(data: Tensor, spec: DataSpec) -> np.ndarray:
    """Return the median of the body's points between -150 and 150 HU, float64 ``sample``; NaN where there is none."""
    low, high = spec.value_range
    images = low + (data.double().mean(1).numpy() + 1) / 2 * (high - low)
    chosen = body_masks(data, spec) & (images > SOFT_TISSUE_HU[0]) & (images < SOFT_TISSUE_HU[1])
    return np.array(
        [np.median(image[body]) if body.any() else np.nan for image, body in zip(images, chosen, strict=True)]
    )


def spread(values: np.ndarray) -> float:
    """Return the standard deviation of the known values between studies; NaN for fewer than two."""
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def _spread_row(what: str, sides: _Sides, seed: int, key: str) -> MetricRow:
    """Return the spread of the other images over that of real ones, with the same resampled patients on both sides."""

    def ratio(rows: np.ndarray) -> float:
        real = spread(sides.real[rows])
        return spread(sides.other[rows]) / real if real > 0 else float("nan")

    value = bootstrap(ratio, len(sides.real), patients=sides.patients, seed=seed)
    return metric_row(what, value, f"spread {spread(sides.other):.4g}, real {spread(sides.real):.4g}", key=key)


def _mean_row(what: str, sides: _Sides, seed: int) -> MetricRow:
    value = paired_interval(sides.other - sides.real, sides.patients, seed=seed)
    return metric_row(what, value, f"real {np.nanmean(sides.real):.4g}")
