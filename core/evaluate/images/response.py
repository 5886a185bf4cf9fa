"""How much does an output change with its prompt, with a given partner, and with the seed? (method 6)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from core.evaluate.bootstrap import mean_interval, mismatched_patients
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import PROMPTED, UNPROMPTED, TestSet, joined

MOST = 16  # studies that are generated again
_OTHER_NOISE = 1


def response_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield the change of every image output when one input alone is exchanged, relative to that between real studies.

    0: the input has no effect. 1: the output differs as two real studies do. Without an effect of the seed, there is
    one image for every prompt.
    """
    ways, indices = test_set.joint_ways(), test_set.joint_indices[:MOST]
    way = PROMPTED if PROMPTED in ways else UNPROMPTED
    if len(indices) < 2 or not test_set.grids:
        return
    outputs, prompts = list(ways[way]), [test_set.centre] if way == PROMPTED and test_set.centre else []
    others = {"seed": test_set.generated(outputs, indices, prompts=prompts, draw=_OTHER_NOISE, title="another seed")}
    if prompts:
        title = "another prompt"
        others["prompt"] = test_set.generated(outputs, indices, prompts=prompts, other_prompts=True, title=title)
    for name in (name for name in test_set.grids if name in outputs):
        base = joined(ways[way][name])[: len(indices)]
        for what, batches in others.items():
            yield from _row(test_set, name, what, base, joined(batches[name]), indices)
    pairs = [pair for pair in test_set.bundle.trained_pairs if set(pair) <= set(test_set.grids)]
    for given, output in (*pairs, *(pair[::-1] for pair in pairs)):
        yield from _given_row(test_set, given, output)


def _given_row(test_set: TestSet, given: str, output: str) -> Iterator[MetricRow]:
    """Yield the change when the given partner is another patient's."""
    everyone = test_set.comparable_indices(given, output)
    indices = everyone[:MOST]
    if len(indices) < 2:
        return
    base = test_set.generated([output], everyone, given=[given], title=f"{output} from {given}")
    other = test_set.generated([output], indices, given=[given], shuffled=True, title=f"{output} from another {given}")
    images = joined(base[output])[: len(indices)], joined(other[output])
    yield from _row(test_set, output, f"given {given}", *images, indices)


def _row(
    test_set: TestSet, name: str, what: str, before: Tensor, after: Tensor, indices: Sequence[int]
) -> Iterator[MetricRow]:
    distance = spread_between_studies(test_set, name)
    if distance > 0:
        change, patients = rms_change(before, after) / distance, test_set.patients(indices)
        value = mean_interval(change, patients, seed=test_set.seed)
        reference = f"real studies differ by {distance:.3f} of [-1, 1]"
        yield metric_row(f"{name}: response to the {what}", value, reference, key=f"response/{what}/{name}")


def rms_change(before: Tensor, after: Tensor) -> np.ndarray:
    """Return the root mean square of the difference of canonical data ``sample *rest``, float64 ``sample``."""
    return (after.double() - before.double()).square().flatten(1).mean(1).sqrt().numpy()


def spread_between_studies(test_set: TestSet, name: str) -> float:
    """Return the mean `rms_change` from a real study to one of another patient; NaN where there are none."""
    indices = test_set.comparable_indices(name)
    if not indices:
        return float("nan")
    data = test_set.data(name, indices)
    return float(rms_change(data, data[mismatched_patients(len(indices), test_set.patients(indices))]).mean())
