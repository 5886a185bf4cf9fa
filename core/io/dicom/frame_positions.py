"""Which slice of a volume each frame of a segmentation lies on.

A frame holds one segment on one slice (PS3.3 C.8.20.2): several lie at one position, and slices on which a segment has
nothing are usually left out. They are slices all the same, and hold nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import UserError
from core.io.dicom.slices import EVEN, EVEN_MM, SAME_MM, Frame, plane_affine, require_alike, volume_affine
from core.types import Geometry, Space

_TO_RAS = np.array([-1.0, -1.0, 1.0])
_NEAR_MM = 0.01  # a frame nearer than this to a slice lies on it


@dataclass(frozen=True, eq=False)
class FramePositions:
    """The volume of ``shape`` (slices, rows, columns) with its ``affine`` (4x4, mm, RAS), and each frame's slice."""

    affine: np.ndarray
    shape: Space
    indices: tuple[int, ...]


def single_position(frames: Sequence[Frame]) -> FramePositions | None:
    """Return the slice that all frames lie on, with its affine (axes row, column); ``None`` where they do not."""
    first = frames[0]
    if np.ptp([frame.position_mm @ first.normal for frame in frames]) >= SAME_MM:
        return None
    return FramePositions(plane_affine(first), (1, first.layout.rows, first.layout.columns), (0,) * len(frames))


def positions_of_frames(frames: Sequence[Frame], what: str) -> FramePositions:
    """Return a volume from the first to the last slice that has a frame.

    Slices lie as far apart as the file states (Spacing Between Slices) where its frames fit that, else as its nearest
    two. `UserError` that begins with ``what``: frames of other size, spacing or direction, uneven steps, or one slice
    of unknown thickness.
    """
    require_alike(frames, what)
    first = frames[0]
    heights = np.array([frame.position_mm @ first.normal for frame in frames])
    lowest, highest = frames[int(heights.argmin())], frames[int(heights.argmax())]
    heights -= heights.min()
    size = (first.layout.rows, first.layout.columns)
    if heights.max() < SAME_MM:
        if first.thickness_mm is None:
            raise UserError(f"{what}: one slice that states no thickness is no volume; set grid, or dims = 2")
        step = first.normal * first.thickness_mm
        return FramePositions(volume_affine(lowest, step), (1, *size), (0,) * len(frames))
    for distance in _distances(first, heights):
        indices = np.rint(heights / distance).astype(np.int64)
        step = (highest.position_mm - lowest.position_mm) / max(1, indices.max())
        if _lie_on(frames, lowest.position_mm, indices, step):
            shape = (int(indices.max()) + 1, *size)
            return FramePositions(volume_affine(lowest, step), shape, tuple(indices.tolist()))
    raise UserError(f"{what}: its slices lie unevenly or not on one line; resample it, or set grid")


def positions_in(geometry: Geometry, frames: Sequence[Frame]) -> FramePositions | None:
    """Return the slices of a volume (axes slice, row, column) that hold frames; ``None`` where a frame lies on none."""
    to_index = np.linalg.inv(geometry.affine)
    slice_indices = []
    for frame in frames:
        corners = _corners(frame)
        rows, columns = frame.layout.rows, frame.layout.columns
        index = int(np.rint((to_index @ [*corners[0], 1.0])[0]))
        indices = np.array([[index, 0, 0, 1], [index, rows - 1, 0, 1], [index, 0, columns - 1, 1]], dtype=np.float64)
        off = np.linalg.norm((indices @ geometry.affine.T)[:, :3] - corners, axis=1)
        if geometry.shape[1:] != (rows, columns) or not 0 <= index < geometry.shape[0] or off.max() > _NEAR_MM:
            return None
        slice_indices.append(index)
    return FramePositions(geometry.affine, geometry.shape, tuple(slice_indices))


def _distances(first: Frame, heights: np.ndarray) -> Iterator[float]:
    """Yield distances that two slices may have: first what the file states."""
    stated = first.group("PixelMeasuresSequence").number("SpacingBetweenSlices")
    if stated is not None and SAME_MM < abs(stated) < 1e4:
        yield abs(stated)
    steps = np.diff(np.sort(heights))
    yield float(steps[steps >= SAME_MM].min(initial=heights.max()))


def _lie_on(frames: Sequence[Frame], first_mm: np.ndarray, indices: np.ndarray, step: np.ndarray) -> bool:
    positions_mm = np.array([frame.position_mm for frame in frames])
    off = np.linalg.norm(positions_mm - first_mm - indices[:, None] * step, axis=1)
    return bool(off.max() <= max(EVEN_MM, EVEN * float(np.linalg.norm(step))))


def _corners(frame: Frame) -> np.ndarray:
    """Return the first pixel, the last of its column and the last of its row, (R, A, S)."""
    first = frame.position_mm
    down = first + frame.down * frame.spacing_mm[0] * (frame.layout.rows - 1)
    along = first + frame.along * frame.spacing_mm[1] * (frame.layout.columns - 1)
    return np.stack([first, down, along]) * _TO_RAS
