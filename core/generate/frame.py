"""Where in the patient an output lies that follows a given image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from core.guide.attention import known_axes
from core.preprocess.spatial import turn_to
from core.types import Geometry


def given_grid(own: Geometry | None, given: Iterable[Geometry | None]) -> Geometry | None:
    """The grid of the first given image that shows points of the same plane or volume as an output, else ``None``.

    ``own`` is the output's default geometry, whose array axes the grid is turned to. Slices of one plane do, and
    volumes; a projection and a slice, or data without a place, do not. What the given file says of how it was made
    (``stored``) is not true of the output and not taken.
    """
    if own is None or not all(known_axes(own)):
        return None
    for one in given:
        if one is not None and all(known_axes(one)) and len(one.shape) == len(own.shape):
            try:
                return replace(turn_to(one, own.orientation).geometry(one), stored=own.stored)
            except ValueError:  # slices of another plane
                continue
    return None
