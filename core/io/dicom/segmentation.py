"""DICOM segmentations to maps of labels: binary and fractional segments, and label maps (PS3.3 A.51, C.8.20)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.dicom.codes import Segment
from core.io.dicom.frame_positions import FramePositions, positions_in, positions_of_frames, single_position
from core.io.dicom.grayscale import read_pixels, stored_number
from core.io.dicom.header import Header
from core.io.dicom.instance import SUFFIXES, collect_warnings, read_header
from core.io.dicom.mark import read_mark
from core.io.dicom.series import SeriesReaderConfig, as_marked
from core.io.dicom.slices import Frame, frames_of, require_alike
from core.io.files import decoding, require_no_nul
from core.io.geometry import SliceChoice, select_slice
from core.io.nifti import read_mask
from core.io.provenance import Mark
from core.types import LABEL_UNITS, Geometry, Sample

if TYPE_CHECKING:
    from pydicom.sr.coding import Code


Match = Literal["number", "code", "name"]
Others = Literal["refuse", "nothing"]
Overlap = Literal["refuse", "later"]
_LARGEST = 2**16 - 1


class Labels:
    """Labels of the segments of a file (PS3.3 C.8.20.4); see `SegmentationReaderConfig`."""

    def __init__(self, header: Header, segments: Sequence[Segment], match: Match, others: Others) -> None:
        self.path, self._segments, self._match, self._others = header.path, segments, match, others
        items = header.items("SegmentSequence")
        self._items = {item.whole("SegmentNumber", 0, _LARGEST): item for item in items}
        if not items or len(self._items) < len(items):
            content = "two segments of one number" if items else "no segments (SegmentSequence)"
            raise UserError(f"{self.path}: states {content}; correct or export the file again")

    def label_of(self, number: int) -> int:
        """Return the label of a segment, 0 for the background; `UserError` where it has none and others are refused."""
        if number not in self._items:
            raise UserError(
                f"{self.path}: has points of segment {number}, and describes {_listed(self._items)}; export it again"
            )
        item = self._items[number]
        if self._match == "number":
            label = number if not self._segments or number <= len(self._segments) else 0
        else:
            same = _has_name if self._match == "name" else _has_code
            label = next((label for label, segment in enumerate(self._segments, 1) if same(item, segment)), 0)
        if not label and self._others == "refuse":
            raise UserError(
                f"{self.path}: segment {number} is {_described(item)}, which is none of the"
                f" {len(self._segments)} labels by {self._match}"
                f" ({', '.join(segment.name for segment in self._segments)}); add it to segments, choose another match,"
                " or set others = 'nothing'"
            )
        return label


def paint_segments(
    stored: np.ndarray,
    least: float,
    frames: Sequence[Frame],
    positions: FramePositions,
    labels: Labels,
    overlap: Overlap,
) -> np.ndarray:
    """Return segments, present from ``least`` on, ``frame row column``, as a map, float32 ``slice row column``.

    They are painted in the order of their numbers: a later one lies above.
    """
    label_map, seen = np.zeros(positions.shape, dtype=np.float32), dict[tuple[int, int], Frame]()
    numbers = [_segment_number(frame) for frame in frames]
    for at in np.argsort(numbers, kind="stable"):
        frame, number, index = frames[at], numbers[at], positions.indices[at]
        _require_single(seen, (number, index), frame)
        label, inside = labels.label_of(number), stored[frame.number] >= least
        if not label:
            continue
        under = label_map[index][inside]
        covered = int(((under != 0) & (under != label)).sum())
        if covered and overlap == "refuse":
            raise UserError(
                f"{frame.path}: segment {number} lies over others in {covered} points ({frame.where}), and a point has"
                ' one label; set overlap = "later" so that the higher number lies above'
            )
        label_map[index][inside] = label
    return label_map


def relabel(stored: np.ndarray, frames: Sequence[Frame], positions: FramePositions, labels: Labels) -> np.ndarray:
    """Return a label map ``frame row column``, whose numbers are those of segments, as float32 ``slice row column``."""
    label_map, seen = np.zeros(positions.shape, dtype=np.float32), dict[tuple[int, int], Frame]()
    # 0, or what is stated as padding, is the background (PS3.3 C.8.20.2.3.4).
    nothing = stored_number(frames[0].header, "PixelPaddingValue", frames[0].layout) or 0
    table = np.zeros(_LARGEST + 1, dtype=np.float32)
    for number in np.unique(stored).tolist():
        table[number] = labels.label_of(number) if number != nothing else 0
    for frame, index in zip(frames, positions.indices, strict=True):
        _require_single(seen, (0, index), frame)
        label_map[index] = table[stored[frame.number]]
    return label_map


def _segment_number(frame: Frame) -> int:
    return frame.group("SegmentIdentificationSequence").whole("ReferencedSegmentNumber", 1, _LARGEST)


def _require_single(seen: dict[tuple[int, int], Frame], key: tuple[int, int], frame: Frame) -> None:
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
    """Return the Segmented Property Type; ``None`` where it is missing."""
    from pydicom.sr.coding import Code

    for code in item.items("SegmentedPropertyTypeCodeSequence")[:1]:
        return Code(code.text("CodeValue"), code.text("CodingSchemeDesignator"), code.text("CodeMeaning"))
    return None


def _described(item: Header) -> str:
    code = _code_of(item)
    name = item.text("SegmentLabel") or "without a name"
    return name if code is None else f"{name} ({code.meaning}, {code.value} {code.scheme_designator})"


def _listed(numbers: dict[int, Header]) -> str:
    return ", ".join(map(str, sorted(numbers)[:12])) + (", ..." if len(numbers) > 12 else "")


# Segmentation Storage and Label Map Segmentation Storage (PS3.4 B.5).
_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_BITS = (1, 8, 16)


class SegmentationReaderConfig(PartConfig):
    """A reader of segmentations, one file each. Label ``i`` is ``segments[i - 1]``, 0 is nothing.

    ``match``: a segment's label is its own ``"number"``, or that of the entry of ``segments`` with its ``"code"``
    (Segmented Property Type) or its ``"name"`` (Segment Label). ``others``: whether a segment that is none of these is
    refused or means nothing. ``overlap``: whether a point of two labels is refused or has that of the ``"later"``
    segment, the one with the higher number. ``threshold``: the share from which on a fractional segment is there.
    ``grid``: a series beside the file, such as ``"scan"`` or ``"{name}_scan"`` (``{name}``: the file's name without
    suffix), whose slices the map gets; left out, it goes from the first to the last slice that has a frame. ``dims``
    2: a map of one slice, or of several the one that ``volume`` names.
    """

    modality: str
    dims: Literal[2, 3] = 3
    volume: SliceChoice = "refuse"
    segments: tuple[Segment, ...] = ()
    match: Match = "number"
    others: Others = "refuse"
    overlap: Overlap = "refuse"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    grid: str | None = None
    max_megavoxels: PositiveFloat = 1000.0

    @model_validator(mode="after")
    def _segments_differ(self) -> SegmentationReaderConfig:
        if self.match == "number":
            return self
        if not self.segments:
            raise ValueError(f"match = '{self.match}' needs segments to match")
        keys = [
            segment.name if self.match == "name" else f"{segment.kind.scheme} {segment.kind.value}"
            for segment in self.segments
        ]
        if len(set(keys)) < len(keys):
            raise ValueError(f"two segments have one {self.match}")
        return self

    def build(self) -> SegmentationReader:
        """Make the reader."""
        return SegmentationReader(self)


class SegmentationReader:
    """Reads float32 ``1 *space`` of whole numbers with its affine (mm, RAS); array axes are (slice, row, column)."""

    suffixes = SUFFIXES

    def __init__(self, config: SegmentationReaderConfig) -> None:
        self.config = config

    def read(self, path: Path) -> Sample:
        """Return the map of labels; slices without a frame hold nothing. `UserError` that names the file for all else.

        ``meta["matched"]``: whether its numbers are labels by code or name, not the file's own.
        """
        path = require_no_nul(path)
        with collect_warnings(path), decoding(path, "DICOM"):
            header = read_header(path)
            _require_segmentation(header)
            frames = frames_of(header, self.config.max_megavoxels, _BITS)
            require_alike(frames, str(path))
            mark = read_mark(header.dataset, path)
            volume = _written_volume(mark, path)
            single = (
                single_position(frames) if self.config.dims == 2 and volume is None and not self.config.grid else None
            )
            positions = single or self._volume(frames, volume, path)
            data = self._labels(header, frames, positions)
            data = data if single is None else data[0]
            geometry = Geometry(affine=positions.affine, shape=data.shape)
            geometry = geometry if mark is None else as_marked(geometry, mark, path)
            if self.config.dims == 2 and single is None:
                data, geometry = select_slice(data, geometry, self.config.volume, path, read_mask)
        meta: dict[str, Any] = {"path": str(path), "units": LABEL_UNITS, "matched": self.config.match != "number"}
        meta |= {} if mark is None else mark.meta()
        data = np.ascontiguousarray(data)
        return Sample(modality=self.config.modality, data=data[None], geometry=geometry, meta=meta)

    def _volume(self, frames: Sequence[Frame], written: Geometry | None, path: Path) -> FramePositions:
        """Return the slices of the map; ``written``: those that MedWeave wrote, unless somebody moved them since."""
        if self.config.grid:
            positions = self._on_series(frames, path)
        else:
            positions = (None if written is None else positions_in(written, frames)) or positions_of_frames(
                frames, str(path)
            )
        if np.prod(positions.shape, dtype=np.float64) > self.config.max_megavoxels * 1e6:
            raise UserError(
                f"{path}: its slices make a volume of {' x '.join(map(str, positions.shape))} points, more than"
                f" max_megavoxels = {self.config.max_megavoxels:g}; raise it"
            )
        return positions

    def _on_series(self, frames: Sequence[Frame], path: Path) -> FramePositions:
        series = path.parent / str(self.config.grid).replace("{name}", path.stem)
        config = SeriesReaderConfig(modality=self.config.modality, max_megavoxels=self.config.max_megavoxels)
        positions = positions_in(config.build().geometry(series), frames)
        if positions is None:
            raise UserError(f"{path}: its frames do not lie on the slices of {series}; name its own series as grid")
        return positions

    def _labels(self, header: Header, frames: Sequence[Frame], positions: FramePositions) -> np.ndarray:
        """Return the labels, float32 ``slice row column``."""
        config = self.config
        labels = Labels(header, config.segments, config.match, config.others)
        stored = read_pixels(header, frames[0].layout)
        if stored.min() < 0:
            raise UserError(f"{header.path}: holds {stored.min()}, and segments begin at 0; export it again")
        if header.word("SegmentationType") == "LABELMAP":
            return relabel(stored, frames, positions, labels)
        return paint_segments(stored, self._least(header, int(stored.max())), frames, positions, labels, config.overlap)

    def _least(self, header: Header, largest: int) -> float:
        """Return the smallest stored number with which a segment is present."""
        kind = header.word("SegmentationType")
        if kind not in ("BINARY", "FRACTIONAL"):
            raise UserError(
                f"{header.path}: SegmentationType is {kind or 'not stated'}, expected BINARY, FRACTIONAL or LABELMAP;"
                " correct or export the file again"
            )
        most = 1 if kind == "BINARY" else header.whole("MaximumFractionalValue", 1, 2**16 - 1)
        if largest > most:
            raise UserError(f"{header.path}: holds {largest}, more than the {most} of a whole segment; correct it")
        return 1.0 if kind == "BINARY" else self.config.threshold * most


def _require_segmentation(header: Header) -> None:
    kind = header.text("SOPClassUID")
    if kind not in _CLASSES:
        from pydicom.uid import UID

        what = (UID(kind).name if kind else "") or header.word("Modality") or "no SOP class"
        raise UserError(f"{header.path}: is no segmentation ({what}); name one, or give it to the modality it is of")


def _written_volume(mark: Mark | None, path: Path) -> Geometry | None:
    if mark is None or mark.shape is None or len(mark.shape) != 3:
        return None
    return mark.geometry(mark.shape, path)
