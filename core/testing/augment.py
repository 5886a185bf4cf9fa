"""Contract checks of an augmenter: random views of a canonical sample."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np

from core.testing.checks import CheckContext, NotApplicable, check, generator, random_state, require, same
from core.testing.preprocess import require_spec

_VIEWS = 100  # a mirror that is used once in twenty views is found in all but 6 of 1,000 runs


@check
def same_generator_same_view(ctx: CheckContext) -> None:
    """The generator's state alone decides the view."""
    augment = ctx.part("augment")
    for sample in ctx.canonical():
        views = [augment.view(sample, generator(7)).data for _ in range(2)]
        require(same(*views), "one seed gave two views")


@check
def seeds_differ(ctx: CheckContext) -> None:
    """Two seeds give two views."""
    augment, sample = ctx.part("augment"), ctx.canonical()[0]
    views = [augment.view(sample, generator(seed)).data for seed in (1, 2)]
    require(not same(*views), "two seeds gave one view")


@check
def leaves_global_randomness(ctx: CheckContext) -> None:
    """Drawing a view neither reads nor advances a global random state."""
    augment, sample = ctx.part("augment"), ctx.canonical()[0]
    before = random_state()
    augment.view(sample, generator(3))
    require(random_state() == before, "a global random state moved")


@check
def views_meet_the_data_spec(ctx: CheckContext) -> None:
    """A view is a canonical sample, and the sample it came from is untouched."""
    augment = ctx.part("augment")
    for sample in ctx.canonical():
        before = deepcopy(sample)
        require_spec(augment.view(sample, generator(5)), ctx.parts.data)
        require(same(before.data, sample.data), "the input was changed")


@check
def left_stays_left(ctx: CheckContext) -> None:
    """No view mirrors an axis: what is bright on one side stays on that side."""
    if ctx.parts.data.kind != "grid":
        raise NotApplicable("no sides")
    augment, sample = ctx.part("augment"), ctx.canonical()[0]
    shape = np.asarray(sample.data).shape
    axes = range(1, len(shape))
    # Bright in the last half of every axis at once, so that one view tests all axes.
    corner = (slice(None), *(slice((size + 1) // 2, None) for size in shape[1:]))
    data = np.full(shape, -0.8, dtype=np.float32)
    data[corner] = 0.8
    for seed in range(_VIEWS):
        view = np.asarray(augment.view(replace(sample, data=data.copy()), generator(seed)).data)
        for axis in axes:
            original, mirrored = view[corner].mean(), np.flip(view, axis)[corner].mean()
            require(original > mirrored, f"seed {seed} mirrors axis {axis - 1}")
