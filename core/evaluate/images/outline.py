"""Do two outputs of one study show one body? The Dice overlap of filled body outlines (method 6).

Only outputs in one plane or volume can be compared: slices of one plane, or volumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage
from torch import Tensor

from core.evaluate.bootstrap import mean_interval, mismatched_patients
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet, joined
from core.generate.conditioning import given_grid
from core.types import LABEL_UNITS, DataSpec

AIR_HU, AIR_SHARE = -700.0, 1 / 8  # air lies below: Hounsfield units, or a share of the value range

Pair = tuple[str, str]


def outline_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield the mean Dice of every pair of outputs that share a plane or volume, by way of making them.

    The ways are real, reconstructed, generated without and with a prompt, and generated from the given real partner.
    Each is shown beside the Dice of mismatched patients.
    """
    for pair in outline_pairs(test_set):
        indices = test_set.comparable_indices(*pair)
        if indices:
            yield _row(test_set, pair, "real", [test_set.data(name, indices) for name in pair], indices)
            images = [joined(test_set.reconstructed(name, indices)) for name in pair]
            yield _row(test_set, pair, "reconstructed", images, indices)
        yield from _generated_rows(test_set, pair)
        if pair in test_set.bundle.trained_pairs or pair[::-1] in test_set.bundle.trained_pairs:
            yield from _given_row(test_set, *pair)
            yield from _given_row(test_set, *pair[::-1])


def outline_pairs(test_set: TestSet) -> list[Pair]:
    """Return the pairs of outputs whose body outlines can be compared, in the order of the flow."""
    specs = {name: test_set.run.parts(name).data for name in test_set.grids}
    return [pair for pair in combinations(specs, 2) if comparable_outlines(*(specs[name] for name in pair))]


def comparable_outlines(first: DataSpec, second: DataSpec) -> bool:
    """Return whether two modalities show one plane or volume on equal grids, in units that tell air from body."""
    return (
        LABEL_UNITS not in (first.units, second.units)
        and first.space == second.space
        and given_grid(first.default_geometry, [second.default_geometry]) is not None
    )


def body_masks(data: Tensor, spec: DataSpec) -> np.ndarray:
    """Return the filled body outlines, bool ``sample *space``, of canonical images ``sample channel *space``.

    The body is the largest connected component above -700 HU in CT, and above an eighth of the value range in other
    units, with its holes filled. An image without any such point has an empty outline.
    """
    images = data.double().mean(1).numpy()
    return np.stack([_filled(image > air_threshold(spec)) for image in images])


def air_threshold(spec: DataSpec) -> float:
    """Return the canonical value, in [-1, 1], below which a point is air."""
    low, high = spec.value_range
    share = (AIR_HU - low) / (high - low) if spec.units == "HU" else AIR_SHARE
    return 2 * share - 1


def dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Dice coefficient 2|A and B| / (|A| + |B|) of masks ``sample *space``, float64 ``sample``.

    Two empty masks agree on nothing: 0.
    """
    axes = tuple(range(1, first.ndim))
    both, total = (first & second).sum(axes), first.sum(axes) + second.sum(axes)
    return np.divide(2.0 * both, total, out=np.zeros(len(first)), where=total > 0)


def _filled(foreground: np.ndarray) -> np.ndarray:
    labelled, num = ndimage.label(foreground)  # pyright: ignore[reportGeneralTypeIssues]
    if num == 0:
        return foreground
    largest = 1 + int(np.argmax(np.bincount(labelled.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(labelled == largest))


def _generated_rows(test_set: TestSet, pair: Pair) -> Iterator[MetricRow]:
    for way, batches in test_set.joint_ways().items():
        if set(pair) <= set(batches):
            images = [joined(batches[name]) for name in pair]
            yield _row(test_set, pair, way, images, test_set.joint_indices)


def _given_row(test_set: TestSet, given: str, output: str) -> Iterator[MetricRow]:
    """Yield the Dice of an output that was generated from a given real partner, and of that partner."""
    indices = test_set.comparable_indices(given, output)
    if indices:
        batches = test_set.generated([output], indices, given=[given], title=f"{output} from {given}")
        images = [test_set.data(given, indices), joined(batches[output])]
        yield _row(test_set, (given, output), f"{output} from the given {given}", images, indices)


def _row(test_set: TestSet, pair: Pair, way: str, images: Sequence[Tensor], indices: Sequence[int]) -> MetricRow:
    patients = test_set.patients(indices)
    specs = (test_set.run.parts(name).data for name in pair)
    first, second = (body_masks(*of) for of in zip(images, specs, strict=True))
    floor = dice(first, second[mismatched_patients(len(indices), patients)]).mean()
    value = mean_interval(dice(first, second), patients, seed=test_set.seed)
    key = f"outline/{way}/{'+'.join(pair)}"
    return metric_row(f"{' and '.join(pair)}: outline Dice, {way}", value, f"another patient {floor:.3f}", key=key)
