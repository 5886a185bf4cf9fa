"""The slices of CT and MR instances: one per file, or one per frame of a multi-frame file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import UserError
from core.io.dicom import Layout, layout_of
from core.io.header import Header

_SQUARE = 1e-3  # how far cosines may be from unit length and right angles
_LOCALIZER = "LOCALIZER"  # value 3 of Image Type, PS3.3 C.8.2.1.1.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One slice and its place, in DICOM's (L, P, S), mm.

    ``position_mm``: the centre of its first pixel. ``along`` and ``down``: directions in which the column and the row
    index grow. ``spacing_mm``: between rows, between columns. ``macro``: where its rescale stands.
    ``groups``: its functional groups, its own first.
    """

    header: Header
    layout: Layout
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

    @property
    def normal(self) -> np.ndarray:
        """The unit vector across the slice, so that (along, down, normal) is right-handed."""
        normal = np.cross(self.along, self.down)
        return normal / np.linalg.norm(normal)

    def group(self, sequence: str) -> Header:
        """What it says under a functional group: its own word, that of all frames, or the instance's."""
        return _group(self.groups, sequence, self.header)


def is_localizer(header: Header) -> bool:
    """Whether the instance is a scout that slices are planned on."""
    return _LOCALIZER in header.words("ImageType")[2:]


def frames_of(header: Header, max_megapixels: float, bits: tuple[int, ...] = (8, 16)) -> list[Frame]:
    """The slices of one instance, in its own order; `UserError` where a frame has no place in the patient."""
    layout = layout_of(header, max_megapixels, bits)
    each, shared = _functional_groups(header, layout)
    return [_frame(header, layout, number, each, shared) for number in range(layout.frames)]


def _functional_groups(header: Header, layout: Layout) -> tuple[list[Header], list[Header]]:
    each = header.items("PerFrameFunctionalGroupsSequence")
    if layout.frames > 1 and len(each) != layout.frames:
        raise UserError(
            f"{header.path}: holds {layout.frames} frames and states the places of {len(each)}"
            " (PerFrameFunctionalGroupsSequence); export it as single slices"
        )
    return each, header.items("SharedFunctionalGroupsSequence")


def _frame(header: Header, layout: Layout, number: int, each: list[Header], shared: list[Header]) -> Frame:
    groups = (*each[number : number + 1], *shared)
    measures = _group(groups, "PixelMeasuresSequence", header)
    position = _group(groups, "PlanePositionSequence", header).vector("ImagePositionPatient", 3)
    cosines = _group(groups, "PlaneOrientationSequence", header).vector("ImageOrientationPatient", 6)
    spacing = measures.lengths_mm("PixelSpacing")
    stated = {"ImagePositionPatient": position, "ImageOrientationPatient": cosines, "PixelSpacing": spacing}
    if position is None or cosines is None or spacing is None:
        lacking = ", ".join(name for name, found in stated.items() if found is None)
        where = f" (frame {number + 1})" if layout.frames > 1 else ""
        raise UserError(
            f"{header.path}: states no {lacking}{where}, so its place is unknown; export it with its geometry"
        )
    _demand_square(cosines, header)
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


def _demand_square(cosines: np.ndarray, header: Header) -> None:
    """`UserError` unless the two directions are unit vectors at a right angle (PS3.3 C.7.6.2.1.1)."""
    found = cosines.reshape(2, 3) @ cosines.reshape(2, 3).T
    if np.abs(found - np.eye(2)).max() > _SQUARE:
        raise UserError(
            f"{header.path}: ImageOrientationPatient {np.round(cosines, 4).tolist()} is no pair of unit vectors at a"
            " right angle; correct or export the file again"
        )


def _thickness(measures: Header) -> float | None:
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        found = measures.number(keyword)
        if found is not None and found != 0:
            # Some scanners state a negative spacing for the order of slices; thickness has no sign.
            if not 1e-6 < abs(found) < 1e4:
                raise UserError(f"{measures.path}: {keyword} is {found:g} mm, beyond any slice; correct it")
            return abs(found)
    return None
