"""Contract checks of a preprocessor: original units to canonical form and back."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import replace

import numpy as np

from core.errors import UserError
from core.testing.checks import CheckContext, CheckFailed, NotApplicable, check, require, same
from core.types import DataSpec, Sample

_RESAMPLED = 0.05  # fraction of the value range that two resamplings may cost a smooth sample on average


@check
def meets_the_data_spec(ctx: CheckContext) -> None:
    """Every canonical sample has the kind, shape, type and range of the `DataSpec`, whatever grid it came on.

    A grid that the preprocessor cannot handle is a `UserError`.
    """
    preprocess = ctx.part("preprocess")
    for sample in map(preprocess.apply, ctx.fresh()):
        require_spec(sample, ctx.parts.data)
    for name, sample in ctx.off_grid().items():
        try:
            canonical = preprocess.apply(sample)
        except UserError:
            continue
        except Exception as error:
            raise CheckFailed(f"a {name} grid gives {type(error).__name__} instead of a UserError: {error}") from error
        require_spec(canonical, ctx.parts.data)


def _accepted(ctx: CheckContext) -> dict[str, tuple[Sample, Sample]]:
    """Return samples on other grids that the preprocessor accepts, and their canonical forms."""
    accepted = {}
    for name, sample in ctx.off_grid().items():
        # What is not accepted is examined by `meets_the_data_spec`.
        with suppress(Exception):
            accepted[name] = sample, ctx.part("preprocess").apply(deepcopy(sample))
    return accepted


@check
def is_deterministic(ctx: CheckContext) -> None:
    """The same sample gives the same canonical form, from two instances."""
    first, second = ctx.part("preprocess"), ctx.part("preprocess")
    for sample, again in zip(ctx.fresh(), ctx.fresh(), strict=True):
        require(same(first.apply(sample).data, second.apply(again).data), "two applications differ")


@check
def is_idempotent(ctx: CheckContext) -> None:
    """Applied to a canonical sample it changes nothing."""
    preprocess = ctx.part("preprocess")
    for sample in ctx.fresh():
        once = preprocess.apply(sample)
        twice = preprocess.apply(once)
        require(same(once.data, twice.data), "a second application changes the data")
        require(once.geometry == twice.geometry, "a second application changes the geometry")


@check
def invert_restores_units_and_geometry(ctx: CheckContext) -> None:
    """``invert(apply(x), like=x.geometry)`` is x within the part's stated ``tolerance`` (in units).

    A sample on another grid gets that grid back: with its values where only axes were reversed, and within 5 % of the
    value range on average where it was resampled.
    """
    preprocess = ctx.part("preprocess")
    tolerance = float(preprocess.tolerance)
    low, high = ctx.parts.data.value_range
    for sample, copy in zip(ctx.samples, ctx.fresh(), strict=True):
        restored = preprocess.invert(preprocess.apply(copy), sample.geometry)
        require(restored.geometry == sample.geometry, f"geometry came back as {restored.geometry}")
        require_close(sample, restored, tolerance)
    for name, (sample, canonical) in _accepted(ctx).items():
        restored = preprocess.invert(canonical, sample.geometry)
        require(restored.geometry == sample.geometry, f"the geometry of a {name} grid came back as {restored.geometry}")
        if name == "flipped":
            require_close(sample, restored, tolerance)
            continue
        gap = float(np.abs(np.asarray(sample.data) - np.asarray(restored.data)).mean())
        allowed = tolerance + _RESAMPLED * (high - low)
        require(gap <= allowed, f"a {name} grid is off by {gap:.3g} on average, allowed {allowed:.3g}")


@check
def invert_defaults_to_the_declared_geometry(ctx: CheckContext) -> None:
    """Without ``like`` a restored grid gets ``DataSpec.default_geometry``."""
    preprocess = ctx.part("preprocess")
    restored = preprocess.invert(preprocess.apply(ctx.fresh()[0]), None)
    expected = ctx.parts.data.default_geometry
    require(restored.geometry == expected, f"geometry is {restored.geometry}, declared is {expected}")


@check
def keeps_positions(ctx: CheckContext) -> None:
    """What lies on the patient's left stays there: the centre of brightness keeps its world position, mm."""
    if ctx.parts.data.kind != "grid":
        raise NotApplicable("no positions")
    accepted = [sample for sample, _ in _accepted(ctx).values()]
    for original in [ctx.fresh()[0], *accepted]:
        sample = _corner(original, ctx.parts.data)
        canonical = ctx.part("preprocess").apply(deepcopy(sample))
        if canonical.geometry is None:
            raise CheckFailed("the canonical sample lost its geometry")
        voxel = max(canonical.geometry.spacing_mm)
        gap = float(np.abs(_centre_mm(sample) - _centre_mm(canonical)).max())
        require(gap <= voxel, f"the centre of brightness moves by {gap:.3g} mm (voxels of {voxel:.3g} mm): mirrored?")


def _corner(sample: Sample, spec: DataSpec) -> Sample:
    """Return the sample with low values except in the last quarter of every axis."""
    low, high = spec.value_range
    shape = np.asarray(sample.data).shape
    data = np.full(shape, low, dtype=np.float32)
    data[(slice(None), *(slice(size - max(1, size // 4), None) for size in shape[1:]))] = high
    return replace(sample, data=data)


def _centre_mm(sample: Sample) -> np.ndarray:
    """Return the centre of brightness in world coordinates (R, A, S), mm; brightness counts from the smallest value."""
    if sample.geometry is None:
        raise CheckFailed("a grid has no geometry")
    light = np.asarray(sample.data, dtype=np.float64).sum(0)
    light = light - light.min()
    index = np.zeros(3)
    for axis, size in enumerate(light.shape):
        profile = np.moveaxis(light, axis, 0).reshape(size, -1).sum(1)
        index[axis] = (profile * np.arange(size)).sum() / max(profile.sum(), 1e-12)
    return sample.geometry.affine[:3, :3] @ index + sample.geometry.affine[:3, 3]


@check
def leaves_its_input(ctx: CheckContext) -> None:
    """The input sample is not changed."""
    preprocess = ctx.part("preprocess")
    for sample, before in zip(ctx.fresh(), ctx.samples, strict=True):
        preprocess.invert(preprocess.apply(sample), sample.geometry)
        require(same(before.data, sample.data) and before.geometry == sample.geometry, "the input was changed")


def require_spec(sample: Sample, spec: DataSpec) -> None:
    """Raise `CheckFailed` unless the sample has the kind, shape, type and range that the spec states."""
    data = sample.data
    if isinstance(data, str):
        raise CheckFailed("the canonical form of text is token ids, found a string")
    if spec.kind == "tokens":
        require(data.dtype == np.int64 and data.ndim == 1, f"ids are {data.dtype} of shape {data.shape}")
        require(0 < len(data) <= spec.space[0], f"{len(data)} ids, at most {spec.space[0]} allowed")
        require(data.min() >= 0 and data.max() < (spec.vocabulary or 0), "an id lies outside the vocabulary")
        return
    require(data.shape == (spec.channels, *spec.space), f"shape {data.shape}, spec {(spec.channels, *spec.space)}")
    require(data.dtype == np.float32, f"data is {data.dtype}, expected float32")
    require(bool((np.abs(data) <= 1 + 1e-6).all()), f"values in [{data.min():.4g}, {data.max():.4g}], expected [-1, 1]")


def require_close(expected: Sample, result: Sample, tolerance: float) -> None:
    """Raise `CheckFailed` unless texts are equal, or arrays have one shape and values within the tolerance."""
    if isinstance(expected.data, str) or isinstance(result.data, str):
        require(same(expected.data, result.data), f"{str(expected.data)[:60]!r} came back as {str(result.data)[:60]!r}")
        return
    require(expected.data.shape == result.data.shape, f"shape {expected.data.shape} came back as {result.data.shape}")
    worst = float(np.abs(expected.data - result.data).max())
    scale = max(1.0, float(np.abs(expected.data).max()))
    require(worst <= tolerance + 1e-5 * scale, f"off by {worst:.3g}, stated tolerance {tolerance:.3g}")
