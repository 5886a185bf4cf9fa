"""Do two outputs of one study show the same anatomy? (method 6)

For every image modality a small network learns to read measurements off real training images, such as the width of
the thorax, as far as data sets know them (`DatasetAdapter.measurements_of`). Of two outputs of one study, the readings
are correlated over studies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from core.data.studies import Studies
from core.engine.checkpoint import WEIGHTS, load_weights, save_weights
from core.evaluate.bootstrap import bootstrap, mean_interval, mismatched_patients
from core.evaluate.finding_classifier import FindingClassifier, classifier_scores, fit
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet, joined
from core.generate.conditioning import given_grid
from core.guide.positions import known_axes

READABLE = 0.5  # R² on validation studies, from which a measurement counts
EPOCHS = 6


class MeasurementReader(nn.Module):
    """A network that reads measurements off images; brightness and contrast carry no information."""

    def __init__(self, channels: int, num: int, *, dims: int) -> None:
        super().__init__()
        self.network = FindingClassifier(channels, num, dims=dims)
        self.register_buffer("mean", torch.zeros(num))
        self.register_buffer("std", torch.ones(num))

    def forward(self, data: Tensor) -> Tensor:
        """Map ``sample channel *space`` in [-1, 1] to measurements ``sample measurement`` in their units."""
        return self.network(data) * self.get_buffer("std") + self.get_buffer("mean")


class _Reading(NamedTuple):
    """A reader, and which measurements it reads on validation studies, bool ``measurement``."""

    reader: MeasurementReader
    readable: np.ndarray


def anatomy_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield what the readers read on real images, and the agreement of every pair of outputs as a share of real."""
    names = measurement_names(test_set)
    if not names:
        return
    readings: dict[str, _Reading] = {}
    for name in test_set.grids:
        reader = trained_reader(test_set, name, names)
        if reader is not None:
            readings[name] = _Reading(reader, r2(*_real(test_set, reader, name, names, validation=True)) >= READABLE)
            yield from _reader_row(test_set, name, names, readings[name])
    for pair in combinations(readings, 2):
        yield from _pair_rows(test_set, pair, names, readings)


def measurement_names(test_set: TestSet) -> tuple[str, ...]:
    """Return the measurements that differ between training studies, in alphabetical order."""
    rows = [_measured(test_set, test_set.cohort.whole, index) for index in range(len(test_set.cohort.whole.records))]
    values: dict[str, set[float]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, set()).add(value)
    return tuple(sorted(name for name, known in values.items() if len(known) > 1))


def measurements(test_set: TestSet, studies: Studies, indices: Sequence[int], names: Sequence[str]) -> np.ndarray:
    """Return the measurements ``sample measurement`` of studies; NaN where unknown."""
    rows = [_measured(test_set, studies, index) for index in indices]
    return np.array([[row.get(name, np.nan) for name in names] for row in rows]).reshape(len(rows), len(names))


def trained_reader(test_set: TestSet, name: str, names: Sequence[str]) -> MeasurementReader | None:
    """Return the reader of a modality, trained on real training images and stored in the run folder.

    ``None`` where fewer than two training studies have measurements. No process waits for others: measures run in the
    main process alone.
    """
    folder = test_set.run.config.run / "measure" / f"measurement_reader.{name}"
    spec, studies = test_set.run.parts(name).data, test_set.cohort.whole
    if (folder / WEIGHTS).is_file():
        reader = MeasurementReader(spec.channels, len(names), dims=len(spec.space))
        load_weights(reader, folder)
        return reader.eval()
    indices = [index for index in studies.indices_with(name) if _measured(test_set, studies, index)]
    if len(indices) < 2:
        return None
    values = torch.from_numpy(measurements(test_set, studies, indices, names)).float()
    reader = train_reader(test_set.data(name, indices, studies), values, seed=test_set.seed)
    if test_set.compute.is_main:
        save_weights(reader, folder, {"modality": name, "measurements": list(names)})
    return reader


def train_reader(data: Tensor, values: Tensor, *, seed: int, epochs: int = EPOCHS) -> MeasurementReader:
    """Train a reader on images ``sample channel *space`` and measurements ``sample measurement``, NaN unknown."""
    mean = torch.nan_to_num(values.nanmean(0))
    std = torch.nan_to_num((values - mean).square().nanmean(0)).sqrt().clamp(min=1e-6)

    def new() -> MeasurementReader:
        reader = MeasurementReader(data.shape[1], values.shape[1], dims=data.ndim - 2)
        reader.get_buffer("mean").copy_(mean)
        reader.get_buffer("std").copy_(std)
        return reader

    def loss(read: Tensor, truth: Tensor) -> Tensor:
        return torch.nan_to_num((read - truth) / std).square().mean()

    return fit(new, data, values, loss, lambda images, _: images, seed=seed, epochs=epochs, purpose="measurements")


def r2(read: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the coefficient of determination of every measurement, float64 ``measurement``.

    Both are ``sample measurement``; NaN in the truth is unknown. NaN where the truth does not vary.
    """
    errors = np.nansum(np.square(read - truth), axis=0)
    total = np.nansum(np.square(truth - np.nanmean(truth, axis=0)), axis=0)
    return 1 - np.divide(errors, total, out=np.full(len(total), np.nan), where=total > 0)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Pearson's correlation of two readings ``sample measurement``, mean over the measurements.

    A measurement that does not vary in one of them agrees with nothing: 0.
    """
    first, second = first - first.mean(0), second - second.mean(0)
    both, scale = (first * second).sum(0), np.sqrt(np.square(first).sum(0) * np.square(second).sum(0))
    return float(np.divide(both, scale, out=np.zeros(len(both)), where=scale > 0).mean())


def _measured(test_set: TestSet, studies: Studies, index: int) -> Mapping[str, float]:
    record = studies.records[index]
    read = test_set.cohort.measurements_of.get(record.dataset)
    return {} if read is None else read(record)


def _real(
    test_set: TestSet, reader: MeasurementReader, name: str, names: Sequence[str], *, validation: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return readings and measurements, both ``sample measurement``, of the validation or the test studies."""
    studies = test_set.cohort.held_out if validation else test_set.studies
    indices = studies.indices_with(name)
    if not indices:
        return np.zeros((1, len(names))), np.zeros((1, len(names)))  # nothing is readable
    return _read(reader, test_set.data(name, indices, studies)), measurements(test_set, studies, indices, names)


def _read(reader: MeasurementReader, data: Tensor) -> np.ndarray:
    return classifier_scores(reader, data).double().numpy()


def _reader_row(test_set: TestSet, name: str, names: Sequence[str], reading: _Reading) -> Iterator[MetricRow]:
    """Yield the mean R² on real test images over the measurements that are readable on validation images."""
    if not reading.readable.any():
        return
    read, truth = _real(test_set, reading.reader, name, names, validation=False)
    scores = r2(read, truth)[reading.readable]
    chosen = [measured for measured, readable in zip(names, reading.readable, strict=True) if readable]
    values = ", ".join(f"{measured} {score:.2f}" for measured, score in zip(chosen, scores, strict=True))
    error = np.square(read - truth)[:, reading.readable] / np.nanvar(truth, axis=0)[reading.readable]
    patients = test_set.patients(test_set.studies.indices_with(name))
    value = mean_interval(1 - np.nanmean(error, axis=1), patients, seed=test_set.seed)
    yield metric_row(f"{name}: measurements read on real test images, mean R²", value, values)


def _pair_rows(
    test_set: TestSet, pair: tuple[str, str], names: Sequence[str], readings: Mapping[str, _Reading]
) -> Iterator[MetricRow]:
    """Yield the agreement of real pairs, and that of other pairs as a share of it; none where real pairs have none."""
    shared = readings[pair[0]].readable & readings[pair[1]].readable
    indices = test_set.comparable_indices(*pair)
    if not shared.any() or not indices:
        return

    def read(images: Sequence[Tensor]) -> list[np.ndarray]:
        return [_read(readings[name].reader, data)[:, shared] for name, data in zip(pair, images, strict=True)]

    first, second = read([test_set.data(name, indices) for name in pair])
    patients = test_set.patients(indices)
    real = bootstrap(lambda rows: correlation(first[rows], second[rows]), len(indices), patients=patients)
    what = f"{' and '.join(pair)}: shared anatomy"
    chosen = ", ".join(name for name, both in zip(names, shared, strict=True) if both)
    floor = correlation(first, second[mismatched_patients(len(indices), patients)])
    yield metric_row(f"{what}, correlation, real", real, f"another patient {floor:.3f}; {chosen}")
    if real.low <= 0:  # nothing to be a share of
        return
    ways = {"reconstructed": (indices, read([joined(test_set.reconstructed(name, indices)) for name in pair]))}
    for way, batches in test_set.joint_ways().items():
        if set(pair) <= set(batches):
            ways[way] = (test_set.joint_indices, read([joined(batches[name]) for name in pair]))
    for way, (studies, sides) in ways.items():
        key = f"anatomy, {_view(test_set, pair)}/{way}/{'+'.join(pair)}"
        yield _share_row(test_set, f"{what}, share of real, {way}", sides, real.value, studies, key)


def _view(test_set: TestSet, pair: tuple[str, str]) -> str:
    """Return whether two outputs show one plane or volume, both are projections, or neither."""
    first, second = (test_set.run.parts(name).data.default_geometry for name in pair)
    if given_grid(first, [second]) is not None:
        return "one plane"
    projections = [geometry is not None and not all(known_axes(geometry)) for geometry in (first, second)]
    return "projections" if all(projections) else "other views"


def _share_row(
    test_set: TestSet, what: str, sides: Sequence[np.ndarray], real: float, indices: Sequence[int], key: str
) -> MetricRow:
    first, second = sides
    patients = test_set.patients(indices)

    def share(rows: np.ndarray) -> float:
        return correlation(first[rows], second[rows]) / real

    value = bootstrap(share, len(indices), patients=patients, seed=test_set.seed)
    floor = correlation(first, second[mismatched_patients(len(indices), patients)]) / real
    return metric_row(what, value, f"another patient {floor:.3f}", key=key)
