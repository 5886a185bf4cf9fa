"""Laws of an augmenter: random views that keep what they must."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np

from core.testing.laws import Bench, NotApplicable, demand, generator, law, random_state, same
from core.testing.preprocess import demand_spec

_VIEWS = 100  # a mirror that is used once in twenty views is found in all but 6 of 1,000 runs


@law
def same_generator_same_view(bench: Bench) -> None:
    """The generator's state decides the view, whole."""
    augment = bench.part("augment")
    for sample in bench.canonical():
        views = [augment.view(sample, generator(7)).data for _ in range(2)]
        demand(same(*views), "one seed gave two views")


@law
def seeds_differ(bench: Bench) -> None:
    """Two seeds give two views."""
    augment, sample = bench.part("augment"), bench.canonical()[0]
    views = [augment.view(sample, generator(seed)).data for seed in (1, 2)]
    demand(not same(*views), "two seeds gave one view")


@law
def leaves_global_randomness(bench: Bench) -> None:
    """Drawing a view neither reads nor advances a global random state."""
    augment, sample = bench.part("augment"), bench.canonical()[0]
    before = random_state()
    augment.view(sample, generator(3))
    demand(random_state() == before, "a global random state moved")


@law
def views_meet_the_data_spec(bench: Bench) -> None:
    """A view is a canonical sample, and the sample it came from is untouched."""
    augment = bench.part("augment")
    for sample in bench.canonical():
        before = deepcopy(sample)
        demand_spec(augment.view(sample, generator(5)), bench.parts.data)
        demand(same(before.data, sample.data), "the input was changed")


@law
def left_stays_left(bench: Bench) -> None:
    """No view mirrors an axis: what is bright on one side stays on that side."""
    if bench.parts.data.kind != "grid":
        raise NotApplicable("no sides")
    augment, sample = bench.part("augment"), bench.canonical()[0]
    shape = np.asarray(sample.data).shape
    axes = range(1, len(shape))
    # Bright in the last half of every axis at once, so that one view answers for all axes.
    corner = (slice(None), *(slice((size + 1) // 2, None) for size in shape[1:]))
    data = np.full(shape, -0.8, dtype=np.float32)
    data[corner] = 0.8
    for seed in range(_VIEWS):
        view = np.asarray(augment.view(replace(sample, data=data.copy()), generator(seed)).data)
        for axis in axes:
            kept, mirrored = view[corner].mean(), np.flip(view, axis)[corner].mean()
            demand(kept > mirrored, f"seed {seed} mirrors axis {axis - 1}")
