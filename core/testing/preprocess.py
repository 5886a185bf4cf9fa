"""Laws of a preprocessor: original units to canonical form and back."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import replace

import numpy as np

from core.errors import UserError
from core.testing.laws import Bench, LawBroken, NotApplicable, demand, law, same
from core.types import DataSpec, Sample

_RESAMPLED = 0.05  # share of the value range that two resamplings may cost a smooth sample on average


@law
def meets_the_data_spec(bench: Bench) -> None:
    """Every canonical sample has the kind, shape, type and range of the `DataSpec`, whatever grid it came on.

    A grid that the preprocessor cannot take is a `UserError`.
    """
    preprocess = bench.part("preprocess")
    for sample in map(preprocess.apply, bench.fresh()):
        demand_spec(sample, bench.parts.data)
    for name, sample in bench.off_grid().items():
        try:
            canonical = preprocess.apply(sample)
        except UserError:
            continue
        except Exception as error:
            raise LawBroken(f"a {name} grid gives {type(error).__name__} instead of a UserError: {error}") from error
        demand_spec(canonical, bench.parts.data)


def _taken(bench: Bench) -> dict[str, tuple[Sample, Sample]]:
    """Samples on other grids that the preprocessor takes, and their canonical forms."""
    taken = {}
    for name, sample in bench.off_grid().items():
        # What is not taken is examined by the law above.
        with suppress(Exception):
            taken[name] = sample, bench.part("preprocess").apply(deepcopy(sample))
    return taken


@law
def is_deterministic(bench: Bench) -> None:
    """The same sample gives the same canonical form, from two instances."""
    first, second = bench.part("preprocess"), bench.part("preprocess")
    for sample, again in zip(bench.fresh(), bench.fresh(), strict=True):
        demand(same(first.apply(sample).data, second.apply(again).data), "two applications differ")


@law
def is_idempotent(bench: Bench) -> None:
    """Applied to a canonical sample it changes nothing."""
    preprocess = bench.part("preprocess")
    for sample in bench.fresh():
        once = preprocess.apply(sample)
        twice = preprocess.apply(once)
        demand(same(once.data, twice.data), "a second application changes the data")
        demand(once.geometry == twice.geometry, "a second application changes the geometry")


@law
def invert_restores_units_and_geometry(bench: Bench) -> None:
    """``invert(apply(x), like=x.geometry)`` is x within the part's stated ``tolerance`` (in units).

    A sample on another grid gets its own grid back; its values too where only axes were turned, and within 5 % of the
    value range on average where they were resampled.
    """
    preprocess = bench.part("preprocess")
    tolerance = float(preprocess.tolerance)
    low, high = bench.parts.data.value_range
    for sample, copy in zip(bench.samples, bench.fresh(), strict=True):
        restored = preprocess.invert(preprocess.apply(copy), sample.geometry)
        demand(restored.geometry == sample.geometry, f"geometry came back as {restored.geometry}")
        demand_close(sample, restored, tolerance)
    for name, (sample, canonical) in _taken(bench).items():
        restored = preprocess.invert(canonical, sample.geometry)
        demand(restored.geometry == sample.geometry, f"the geometry of a {name} grid came back as {restored.geometry}")
        if name == "flipped":
            demand_close(sample, restored, tolerance)
            continue
        gap = float(np.abs(np.asarray(sample.data) - np.asarray(restored.data)).mean())
        allowed = tolerance + _RESAMPLED * (high - low)
        demand(gap <= allowed, f"a {name} grid is off by {gap:.3g} on average, allowed {allowed:.3g}")


@law
def invert_defaults_to_the_declared_geometry(bench: Bench) -> None:
    """Without ``like`` a restored grid gets ``DataSpec.default_geometry``."""
    preprocess = bench.part("preprocess")
    restored = preprocess.invert(preprocess.apply(bench.fresh()[0]), None)
    expected = bench.parts.data.default_geometry
    demand(restored.geometry == expected, f"geometry is {restored.geometry}, declared is {expected}")


@law
def keeps_places(bench: Bench) -> None:
    """What lies on the patient's left stays there: the centre of brightness keeps its place in the world, mm."""
    if bench.parts.data.kind != "grid":
        raise NotApplicable("no places")
    taken = [sample for sample, _ in _taken(bench).values()]
    for sample in (_corner(one, bench.parts.data) for one in [bench.fresh()[0], *taken]):
        canonical = bench.part("preprocess").apply(deepcopy(sample))
        if canonical.geometry is None:
            raise LawBroken("the canonical sample lost its geometry")
        voxel = max(canonical.geometry.spacing_mm)
        gap = float(np.abs(_centre_mm(sample) - _centre_mm(canonical)).max())
        demand(gap <= voxel, f"the centre of brightness moves by {gap:.3g} mm (voxels of {voxel:.3g} mm): mirrored?")


def _corner(sample: Sample, spec: DataSpec) -> Sample:
    """Dark but for the last quarter of every axis."""
    low, high = spec.value_range
    shape = np.asarray(sample.data).shape
    data = np.full(shape, low, dtype=np.float32)
    data[(slice(None), *(slice(size - max(1, size // 4), None) for size in shape[1:]))] = high
    return replace(sample, data=data)


def _centre_mm(sample: Sample) -> np.ndarray:
    """Centre of brightness in the world, (R, A, S) mm; brightness is what lies above the smallest value."""
    if sample.geometry is None:
        raise LawBroken("a grid came without geometry")
    light = np.asarray(sample.data, dtype=np.float64).sum(0)
    light = light - light.min()
    index = np.zeros(3)
    for axis, size in enumerate(light.shape):
        profile = np.moveaxis(light, axis, 0).reshape(size, -1).sum(1)
        index[axis] = (profile * np.arange(size)).sum() / max(profile.sum(), 1e-12)
    return sample.geometry.affine[:3, :3] @ index + sample.geometry.affine[:3, 3]


@law
def leaves_its_input(bench: Bench) -> None:
    """The sample handed in is not changed."""
    preprocess = bench.part("preprocess")
    for sample, before in zip(bench.fresh(), bench.samples, strict=True):
        preprocess.invert(preprocess.apply(sample), sample.geometry)
        demand(same(before.data, sample.data) and before.geometry == sample.geometry, "the input was changed")


def demand_spec(sample: Sample, spec: DataSpec) -> None:
    """The sample has the kind, shape, type and range that the spec states."""
    data = sample.data
    if isinstance(data, str):
        raise LawBroken("the canonical form of text is token ids, found a string")
    if spec.kind == "tokens":
        demand(data.dtype == np.int64 and data.ndim == 1, f"ids are {data.dtype} of shape {data.shape}")
        demand(0 < len(data) <= spec.space[0], f"{len(data)} ids, at most {spec.space[0]} allowed")
        demand(data.min() >= 0 and data.max() < (spec.vocabulary or 0), "an id lies outside the vocabulary")
        return
    demand(data.shape == (spec.channels, *spec.space), f"shape {data.shape}, spec {(spec.channels, *spec.space)}")
    demand(data.dtype == np.float32, f"data is {data.dtype}, expected float32")
    demand(bool((np.abs(data) <= 1 + 1e-6).all()), f"values in [{data.min():.4g}, {data.max():.4g}], expected [-1, 1]")


def demand_close(expected: Sample, found: Sample, tolerance: float) -> None:
    """Equal text; equal shape and values within the tolerance for arrays."""
    if isinstance(expected.data, str) or isinstance(found.data, str):
        demand(same(expected.data, found.data), f"{str(expected.data)[:60]!r} came back as {str(found.data)[:60]!r}")
        return
    demand(expected.data.shape == found.data.shape, f"shape {expected.data.shape} came back as {found.data.shape}")
    worst = float(np.abs(expected.data - found.data).max())
    scale = max(1.0, float(np.abs(expected.data).max()))
    demand(worst <= tolerance + 1e-5 * scale, f"off by {worst:.3g}, stated tolerance {tolerance:.3g}")
