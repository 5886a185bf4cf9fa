"""The slices of CT and MR instances: one per file, or one per frame of a multi-frame file.

Slices in the order of their positions, and the affine of the volume they make.

DICOM gives the centre of the pixel at row ``i``, column ``j`` of slice ``k`` in (L, P, S), mm (PS3.3 C.7.6.2.1.1)::

    P(k, i, j) = position(k) + down * row_spacing * i + along * column_spacing * j
    position(k) = position(0) + step * k,    step = (position(n - 1) - position(0)) / (n - 1)

so array axes (slice, row, column) have the columns ``step``, ``down * row_spacing``, ``along * column_spacing``, and
(R, A, S) are these with the first two coordinates negated. Under a gantry tilt ``step`` is not the normal: it is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from core.errors import MedWeaveWarning, UserError
from core.io.dicom.grayscale import PixelLayout, layout_of
from core.io.dicom.header import Header

_SQUARE = 1e-3  # how far cosines may be from unit length and right angles
_LOCALIZER = "LOCALIZER"  # value 3 of Image Type, PS3.3 C.8.2.1.1.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One slice and its position, in DICOM's (L, P, S), mm.

    ``position_mm``: the centre of its first pixel. ``along`` and ``down``: directions in which the column and the row
    index grow. ``spacing_mm``: between rows, between columns. ``macro``: where its rescale stands.
    ``groups``: its functional groups, its own first.
    """

    header: Header
    layout: PixelLayout
    number: int
    macro: Header
    groups: tuple[Header, ...]
    position_mm: np.ndarray
    along: np.ndarray
    down: np.ndarray
    spacing_mm: tuple[float, float]
    thickness_mm: float | None

    @property
    def path(self) -> Path:
        """The file it lies in."""
        return self.header.path

    @property
    def where(self) -> str:
        """The file's name, and the frame's number where there are several."""
        return self.path.name + (f" frame {self.number + 1}" if self.layout.frames > 1 else "")

    @cached_property
    def normal(self) -> np.ndarray:
        """The unit vector across the slice, so that (along, down, normal) is right-handed."""
        normal = np.cross(self.along, self.down)
        return normal / np.linalg.norm(normal)

    def group(self, sequence: str) -> Header:
        """Return what a functional group says: the frame's, that of all frames, or the instance's."""
        return _group(self.groups, sequence, self.header)


def is_localizer(header: Header) -> bool:
    """Return whether the instance is a scout that slices are planned on."""
    return _LOCALIZER in header.words("ImageType")[2:]


def frames_of(header: Header, max_megapixels: float, bits: tuple[int, ...] = (8, 16)) -> list[Frame]:
    """Return the slices of an instance, in its order; `UserError` where a frame states no position in the patient."""
    layout = layout_of(header, max_megapixels, bits)
    each, shared = _functional_groups(header, layout)
    return [_frame(header, layout, number, each, shared) for number in range(layout.frames)]


def _functional_groups(header: Header, layout: PixelLayout) -> tuple[list[Header], list[Header]]:
    each = header.items("PerFrameFunctionalGroupsSequence")
    if layout.frames > 1 and len(each) != layout.frames:
        raise UserError(
            f"{header.path}: holds {layout.frames} frames and states the places of {len(each)}"
            " (PerFrameFunctionalGroupsSequence); export it as single slices"
        )
    return each, header.items("SharedFunctionalGroupsSequence")


def _frame(header: Header, layout: PixelLayout, number: int, each: list[Header], shared: list[Header]) -> Frame:
    groups = (*each[number : number + 1], *shared)
    measures = _group(groups, "PixelMeasuresSequence", header)
    position = _group(groups, "PlanePositionSequence", header).vector("ImagePositionPatient", 3)
    cosines = _group(groups, "PlaneOrientationSequence", header).vector("ImageOrientationPatient", 6)
    spacing = measures.lengths_mm("PixelSpacing")
    stated = {"ImagePositionPatient": position, "ImageOrientationPatient": cosines, "PixelSpacing": spacing}
    if position is None or cosines is None or spacing is None:
        lacking = ", ".join(name for name, value in stated.items() if value is None)
        where = f" (frame {number + 1})" if layout.frames > 1 else ""
        raise UserError(
            f"{header.path}: states no {lacking}{where}, so its place is unknown; export it with its geometry"
        )
    _require_square(cosines, header)
    return Frame(
        header=header,
        layout=layout,
        number=number,
        macro=_group(groups, "PixelValueTransformationSequence", header),
        groups=groups,
        position_mm=position,
        along=cosines[:3],
        down=cosines[3:],
        spacing_mm=spacing,
        thickness_mm=_thickness(measures),
    )


def _group(groups: tuple[Header, ...], sequence: str, header: Header) -> Header:
    """PS3.3 C.7.6.16: a frame's own, else that of all frames, else the instance (which has one frame)."""
    return next((items[0] for group in groups if (items := group.items(sequence))), header)


def _require_square(cosines: np.ndarray, header: Header) -> None:
    """`UserError` unless the two directions are unit vectors at a right angle (PS3.3 C.7.6.2.1.1)."""
    products = cosines.reshape(2, 3) @ cosines.reshape(2, 3).T
    if np.abs(products - np.eye(2)).max() > _SQUARE:
        raise UserError(
            f"{header.path}: ImageOrientationPatient {np.round(cosines, 4).tolist()} is no pair of unit vectors at a"
            " right angle; correct or export the file again"
        )


def _thickness(measures: Header) -> float | None:
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        thickness = measures.number(keyword)
        if thickness is not None and thickness != 0:
            # Some scanners state a negative spacing for the order of slices; thickness has no sign.
            if not 1e-6 < abs(thickness) < 1e4:
                raise UserError(f"{measures.path}: {keyword} is {thickness:g} mm, beyond any slice; correct it")
            return abs(thickness)
    return None


Gaps = Literal["refuse", "longest"]
_TO_RAS = np.array([-1.0, -1.0, 1.0])
SAME_MM = 1e-3  # slices nearer than this are one place
EVEN = 0.02  # share of the step by which a slice may be off its place: positions are rounded
EVEN_MM = 0.01
_ANGLE = 1e-4  # difference of cosines that rounding explains
_DIFFER = (
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "AcquisitionNumber",
    "ImageType",
)


def stacked(frames: Sequence[Frame], gaps: Gaps, what: str) -> tuple[list[Frame], np.ndarray]:
    """Return the slices from the first to the last along their normal, and their affine (4x4, mm, RAS).

    ``what`` is the path that errors name. `UserError`: slices of other size, spacing or direction, two at one place, a
    gap, uneven steps, or one slice of unknown thickness. ``gaps`` ``"longest"`` keeps the longest run without a gap.
    """
    require_alike(frames, what)
    order = sorted(frames, key=lambda frame: float(frame.position_mm @ frames[0].normal))
    if len(order) == 1:
        if order[0].thickness_mm is None:
            raise UserError(f"{what}: one slice that states no thickness is no volume; name a series, or set dims = 2")
        return order, plane_affine(order[0])[:, [2, 0, 1, 3]]
    heights = np.array([frame.position_mm @ frames[0].normal for frame in order])
    _require_apart(order, heights, what)
    order = _without_gaps(order, heights, gaps, what)
    step = (order[-1].position_mm - order[0].position_mm) / (len(order) - 1)
    _require_even(order, step, what)
    return order, volume_affine(order[0], step)


def plane_affine(frame: Frame) -> np.ndarray:
    """Return the affine of one slice, axes (row, column); its third column is the normal times thickness, else 1 mm."""
    return _affine(frame, [*_in_plane(frame), frame.normal * (frame.thickness_mm or 1.0)])


def volume_affine(first: Frame, step: np.ndarray) -> np.ndarray:
    """Return the affine of a volume, axes (slice, row, column), from its first slice and the step between slices."""
    return _affine(first, [step, *_in_plane(first)])


def _in_plane(frame: Frame) -> list[np.ndarray]:
    return [frame.down * frame.spacing_mm[0], frame.along * frame.spacing_mm[1]]


def _affine(first: Frame, steps: Sequence[np.ndarray]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack(steps) * _TO_RAS[:, None]
    affine[:3, 3] = first.position_mm * _TO_RAS
    return affine + 0.0


def require_alike(frames: Sequence[Frame], what: str) -> None:
    """Raise `UserError` where slices differ in size, spacing, direction, polarity or frame of reference."""
    first = frames[0]
    for frame in frames[1:]:
        faults = {
            "size": (first.layout.rows, first.layout.columns) != (frame.layout.rows, frame.layout.columns),
            "pixel spacing": not np.allclose(first.spacing_mm, frame.spacing_mm, rtol=1e-4),
            "orientation": np.abs([first.along - frame.along, first.down - frame.down]).max() > _ANGLE,
            "polarity": first.layout.inverted != frame.layout.inverted,
            "FrameOfReferenceUID": _states_another(first, frame, "FrameOfReferenceUID"),
        }
        differing = [name for name, differs in faults.items() if differs]
        if differing:
            raise UserError(
                f"{what}: {frame.where} has another {' and '.join(differing)} than {first.where}, so they are no"
                " volume; split the series into folders"
            )


def _states_another(first: Frame, frame: Frame, keyword: str) -> bool:
    """Return whether both instances state it, differently."""
    if frame.header is first.header:
        return False
    words = first.header.word(keyword), frame.header.word(keyword)
    return all(words) and words[0] != words[1]


def _require_apart(order: Sequence[Frame], heights: np.ndarray, what: str) -> None:
    same = np.flatnonzero(np.diff(heights) < SAME_MM)
    if same.size:
        first, second = order[int(same[0])], order[int(same[0]) + 1]
        differing = [name for name in _DIFFER if first.header.text(name) != second.header.text(name)]
        why = f" (they differ in {', '.join(differing)})" if differing else ""
        raise UserError(
            f"{what}: {first.where} and {second.where} lie at one place{why}, and {same.size - 1} more pairs do; remove"
            " copies, or split echoes, phases and repetitions into folders"
        )


def _without_gaps(order: list[Frame], heights: np.ndarray, gaps: Gaps, what: str) -> list[Frame]:
    distances = np.diff(heights)
    usual = float(np.median(distances))
    wide = np.flatnonzero(distances > 1.5 * usual)
    if not wide.size:
        return order
    first, second = order[int(wide[0])], order[int(wide[0]) + 1]
    gap = (
        f"{distances[wide[0]]:.4g} mm between {first.where} and {second.where}, {usual:.4g} mm between others"
        f" ({wide.size} such gap{'s' if wide.size > 1 else ''} in {len(order)} slices)"
    )
    if gaps == "refuse":
        raise UserError(f'{what}: slices are missing: {gap}; complete the series, or set gaps = "longest"')
    ends = [0, *(int(index) + 1 for index in wide), len(order)]
    start, stop = max(pairwise(ends), key=lambda run: run[1] - run[0])
    warnings.warn(MedWeaveWarning(f"{what}: {gap}; the longest run of {stop - start} slices is read"), stacklevel=2)
    return order[start:stop]


def _require_even(order: Sequence[Frame], step: np.ndarray, what: str) -> None:
    positions = np.array([frame.position_mm for frame in order])
    off = np.linalg.norm(positions - positions[0] - np.arange(len(order))[:, None] * step, axis=1)
    worst = int(np.argmax(off))
    if off[worst] > max(EVEN_MM, EVEN * float(np.linalg.norm(step))):
        raise UserError(
            f"{what}: its slices lie unevenly or not on one line: {order[worst].where} is {off[worst]:.3g} mm off, with"
            f" steps of {np.linalg.norm(step):.4g} mm; resample it, or split it into folders of even steps"
        )
