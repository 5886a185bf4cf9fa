"""Laws of a preprocessor: original units to canonical form and back."""

from __future__ import annotations

import numpy as np

from core.testing.laws import Bench, LawBroken, demand, law, same
from core.types import DataSpec, Sample


@law
def meets_the_data_spec(bench: Bench) -> None:
    """Every canonical sample has the kind, shape, type and range of the `DataSpec`."""
    for sample in map(bench.part("preprocess").apply, bench.fresh()):
        demand_spec(sample, bench.parts.data)


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
    """``invert(apply(x), like=x.geometry)`` is x within the part's stated ``tolerance`` (in units)."""
    preprocess = bench.part("preprocess")
    for sample, copy in zip(bench.samples, bench.fresh(), strict=True):
        restored = preprocess.invert(preprocess.apply(copy), sample.geometry)
        demand(restored.geometry == sample.geometry, f"geometry came back as {restored.geometry}")
        demand_close(sample, restored, float(getattr(preprocess, "tolerance", 0.0)))


@law
def invert_defaults_to_the_declared_geometry(bench: Bench) -> None:
    """Without ``like`` a restored grid gets ``DataSpec.default_geometry``."""
    preprocess = bench.part("preprocess")
    restored = preprocess.invert(preprocess.apply(bench.fresh()[0]), None)
    expected = bench.parts.data.default_geometry
    demand(restored.geometry == expected, f"geometry is {restored.geometry}, declared is {expected}")


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
