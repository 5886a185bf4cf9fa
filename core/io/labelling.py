"""Frames of a segmentation painted into a map: which label a segment is, and which of two lies above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from core.errors import UserError
from core.io.frames import Frame
from core.io.grayscale import stored_number
from core.io.header import Header
from core.io.segments import Segment
from core.io.slots import Slots

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

Match = Literal["number", "code", "name"]
Others = Literal["refuse", "nothing"]
Overlap = Literal["refuse", "later"]
_LARGEST = 2**16 - 1


class Labels:
    """The label of each segment of a file (PS3.3 C.8.20.4); see `core.io.segmentation.SegmentationReaderConfig`."""

    def __init__(self, header: Header, segments: Sequence[Segment], match: Match, others: Others) -> None:
        self.path, self._segments, self._match, self._others = header.path, segments, match, others
        items = header.items("SegmentSequence")
        self._items = {item.whole("SegmentNumber", 0, _LARGEST): item for item in items}
        if not items or len(self._items) < len(items):
            found = "two segments of one number" if items else "no segments (SegmentSequence)"
            raise UserError(f"{self.path}: states {found}; correct or export the file again")

    def of(self, number: int) -> int:
        """The label of a segment, 0 where it means nothing; `UserError` where it has none and others are refused."""
        if number not in self._items:
            raise UserError(
                f"{self.path}: has points of segment {number}, and describes {_listed(self._items)}; export it again"
            )
        item = self._items[number]
        if self._match == "number":
            label = number if not self._segments or number <= len(self._segments) else 0
        else:
            same = _has_name if self._match == "name" else _has_code
            label = next((place for place, one in enumerate(self._segments, 1) if same(item, one)), 0)
        if not label and self._others == "refuse":
            raise UserError(
                f"{self.path}: segment {number} is {_told(item)}, which is none of the"
                f" {len(self._segments)} labels by {self._match}"
                f" ({', '.join(one.name for one in self._segments)}); add it to segments, choose another match, or set"
                " others = 'nothing'"
            )
        return label


def painted(
    stored: np.ndarray, least: float, frames: Sequence[Frame], slots: Slots, labels: Labels, overlap: Overlap
) -> np.ndarray:
    """Segments, there from ``least`` on, ``frame row column``, as a map, float32 ``slice row column``.

    They are painted in the order of their numbers: a later one lies above.
    """
    found, seen = np.zeros(slots.shape, dtype=np.float32), dict[tuple[int, int], Frame]()
    numbers = [_segment_number(frame) for frame in frames]
    for at in np.argsort(numbers, kind="stable"):
        frame, number, place = frames[at], numbers[at], slots.places[at]
        _demand_one(seen, (number, place), frame)
        label, inside = labels.of(number), stored[frame.number] >= least
        if not label:
            continue
        under = found[place][inside]
        covered = int(((under != 0) & (under != label)).sum())
        if covered and overlap == "refuse":
            raise UserError(
                f"{frame.path}: segment {number} lies over others in {covered} points ({frame.where}), and a point has"
                ' one label; set overlap = "later" so that the higher number lies above'
            )
        found[place][inside] = label
    return found


def mapped(stored: np.ndarray, frames: Sequence[Frame], slots: Slots, labels: Labels) -> np.ndarray:
    """A label map ``frame row column``, whose numbers are those of segments, as float32 ``slice row column``."""
    found, seen = np.zeros(slots.shape, dtype=np.float32), dict[tuple[int, int], Frame]()
    # 0, or what is stated as padding, is the background (PS3.3 C.8.20.2.3.4).
    nothing = stored_number(frames[0].header, "PixelPaddingValue", frames[0].layout) or 0
    table = np.zeros(_LARGEST + 1, dtype=np.float32)
    for number in np.unique(stored).tolist():
        table[number] = labels.of(number) if number != nothing else 0
    for frame, place in zip(frames, slots.places, strict=True):
        _demand_one(seen, (0, place), frame)
        found[place] = table[stored[frame.number]]
    return found


def _segment_number(frame: Frame) -> int:
    return frame.group("SegmentIdentificationSequence").whole("ReferencedSegmentNumber", 1, _LARGEST)


def _demand_one(seen: dict[tuple[int, int], Frame], key: tuple[int, int], frame: Frame) -> None:
    """`UserError` for a second frame of one segment on one slice: phases, or tiles."""
    if key in seen:
        what = f" of segment {key[0]}" if key[0] else ""
        raise UserError(
            f"{frame.path}: {seen[key].where} and {frame.where}{what} lie at one place; split it into files of one each"
        )
    seen[key] = frame


def _has_code(item: Header, segment: Segment) -> bool:
    code = _code_of(item)
    from pydicom.sr.coding import Code

    # Equality of codes knows the older SNOMED-RT identifiers.
    return code is not None and code == Code(segment.kind.value, segment.kind.scheme, segment.kind.meaning)


def _has_name(item: Header, segment: Segment) -> bool:
    return item.text("SegmentLabel").strip().casefold() == segment.name.casefold()


def _code_of(item: Header) -> Code | None:
    """Segmented Property Type; ``None`` where it is missing."""
    from pydicom.sr.coding import Code

    for one in item.items("SegmentedPropertyTypeCodeSequence")[:1]:
        return Code(one.text("CodeValue"), one.text("CodingSchemeDesignator"), one.text("CodeMeaning"))
    return None


def _told(item: Header) -> str:
    code = _code_of(item)
    name = item.text("SegmentLabel") or "without a name"
    return name if code is None else f"{name} ({code.meaning}, {code.value} {code.scheme_designator})"


def _listed(numbers: dict[int, Header]) -> str:
    return ", ".join(map(str, sorted(numbers)[:12])) + (", ..." if len(numbers) > 12 else "")
