"""CT and MR series in DICOM: single slices, folders of slices and multi-frame files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from core.contract.modality import PartConfig
from core.errors import MedWeaveWarning, UserError
from core.io.dicom.grayscale import is_padding, modality_of, read_pixels
from core.io.dicom.header import Header
from core.io.dicom.instance import SUFFIXES, collect_warnings, read_header
from core.io.dicom.mark import read_mark
from core.io.dicom.radiograph import lies_apart, require_kind
from core.io.dicom.series_files import SeriesChoice, find_series, find_series_of
from core.io.dicom.slices import Frame, Gaps, frames_of, is_localizer, plane_affine, stacked
from core.io.files import decoding, require_no_nul
from core.io.geometry import SliceChoice, select_slice
from core.io.nifti import read_mask
from core.io.provenance import Mark
from core.types import Geometry, Sample

_SAME_POSITION_MM = 1e-3  # what 16 characters of a decimal string may lose
_ACQUISITION = {
    "KVP": "kvp",
    "RepetitionTime": "repetition_time_ms",
    "EchoTime": "echo_time_ms",
    "InversionTime": "inversion_time_ms",
    "FlipAngle": "flip_angle_deg",
    "MagneticFieldStrength": "field_strength_t",
    "SliceThickness": "thickness_mm",
}


class SeriesReaderConfig(PartConfig):
    """A reader of CT and MR. A path is a folder with one image series, or one file.

    ``dims`` 3: the volume; of a single-frame file, that of its series in its folder. 2: the slice of a single-frame
    file; of a folder or a multi-frame file, what ``volume`` says (see `core.io.geometry`). ``series``: which series of
    a folder with several is read (`SeriesChoice`); scouts beside a scan do not count. ``kinds``: values of
    Modality (0008,0060) that are taken, none: any. ``rescale`` ``"require"``: files without Rescale Slope and
    Intercept, or with a Rescale Type other than ``units``, are refused, for their numbers are not in ``units``.
    ``gaps``: refuse a series that lacks slices, or read its longest run. ``localizers``: read scouts too.
    ``burned_in``: read images too that say a name is burned into them.
    """

    modality: str
    units: str = "a.u."
    dims: Literal[2, 3] = 3
    volume: SliceChoice = "refuse"
    series: SeriesChoice = "only"
    kinds: tuple[str, ...] = ()
    rescale: Literal["require", "where_given"] = "where_given"
    gaps: Gaps = "refuse"
    localizers: bool = False
    burned_in: bool = False
    max_megavoxels: PositiveFloat = 1000.0
    max_files: PositiveInt = 10_000

    def build(self) -> SeriesReader:
        """Make the reader."""
        return SeriesReader(self)


class SeriesReader:
    """Reads float32 ``1 *space`` with the exact affine (mm, RAS); array axes are (slice, row, column)."""

    suffixes = SUFFIXES

    def __init__(self, config: SeriesReaderConfig) -> None:
        self.config = config

    def read(self, path: Path) -> Sample:
        """Return the volume or slice in units; `UserError` that names the file for all that is not sure."""
        path = require_no_nul(path)
        with collect_warnings(path), decoding(path, "DICOM"):
            frames = self._frames(self._headers(path), path)
            if self.config.dims == 2 and len(frames) == 1:
                data, affine = self._values(frames, path)[0], plane_affine(frames[0])
            else:
                frames, affine = stacked(frames, self.config.gaps, str(path))
                data = self._values(frames, path)
            mark = read_mark(frames[0].header.dataset, frames[0].path)
            geometry = Geometry(affine=affine, shape=data.shape, source_header=_stored(frames[0]))
            geometry = geometry if mark is None else as_marked(geometry, mark, path)
            if self.config.dims == 2 and data.ndim == 3:
                data, geometry = select_slice(data, geometry, self.config.volume, path, read_mask)
        meta: dict[str, Any] = {"path": str(path), "units": self.config.units} | ({} if mark is None else mark.meta())
        data = np.ascontiguousarray(data)
        return Sample(modality=self.config.modality, data=data[None], geometry=geometry, meta=meta)

    def geometry(self, path: Path) -> Geometry:
        """Return the geometry of the volume, as `read` has it, without decoding pixels."""
        path = require_no_nul(path)
        with collect_warnings(path), decoding(path, "DICOM"):
            frames, affine = stacked(self._frames(self._headers(path), path), self.config.gaps, str(path))
            mark = read_mark(frames[0].header.dataset, frames[0].path)
            geometry = Geometry(affine=affine, shape=(len(frames), frames[0].layout.rows, frames[0].layout.columns))
            return geometry if mark is None else as_marked(geometry, mark, path)

    def _headers(self, path: Path) -> list[Header]:
        if path.is_dir():
            return find_series(path, self.config.max_files, self.config.series, localizers=self.config.localizers)
        header = read_header(path)
        several = header.whole("NumberOfFrames", 1, 2**31, default=1) > 1
        parts = header.whole("InConcatenationTotalNumber", 1, 2**16 - 1, default=1)
        if parts > 1:  # PS3.3 C.7.6.16.2.2.4
            raise UserError(f"{path}: is one of {parts} parts of a multi-frame image; name the folder that holds them")
        # A multi-frame file is a volume of its own; several of them in a series are phases or repetitions.
        return [header] if several or self.config.dims == 2 else find_series_of(header, self.config.max_files)

    def _frames(self, headers: list[Header], path: Path) -> list[Frame]:
        headers = self._without_localizers(headers, path)
        frames = list[Frame]()
        total = 0
        for header in headers:
            require_kind(header, self.config.kinds, self.config.burned_in)
            parts = frames_of(header, self.config.max_megavoxels)
            total += len(parts) * parts[0].layout.rows * parts[0].layout.columns
            if total > self.config.max_megavoxels * 1e6:
                raise UserError(f"{path}: is more than max_megavoxels = {self.config.max_megavoxels:g}; raise it")
            frames += parts
        return frames

    def _without_localizers(self, headers: list[Header], path: Path) -> list[Header]:
        scouts = [header for header in headers if is_localizer(header)]
        if not scouts or self.config.localizers:
            return headers
        if len(scouts) == len(headers):
            raise UserError(f"{path}: is a localizer, not a scan; name another series, or set localizers = true")
        names = ", ".join(header.path.name for header in scouts[:3]) + (", ..." if len(scouts) > 3 else "")
        warnings.warn(
            MedWeaveWarning(f"{path}: left out {len(scouts)} localizers of the series: {names}"), stacklevel=2
        )
        return [header for header in headers if header not in scouts]

    def _values(self, frames: Sequence[Frame], path: Path) -> np.ndarray:
        """Return float32 ``slice row column`` in units, each file decoded once; padding becomes the lowest value."""
        layout = frames[0].layout
        shape = (len(frames), layout.rows, layout.columns)
        values, padding = np.empty(shape, dtype=np.float32), np.zeros(shape, dtype=bool)
        indices = dict[Header, list[int]]()
        for index, frame in enumerate(frames):
            indices.setdefault(frame.header, []).append(index)
        for header, rows in indices.items():
            stored = read_pixels(header, frames[rows[0]].layout)
            for index in rows:
                plane = stored[frames[index].number]
                values[index] = self._in_units(plane, frames[index])
                padded = is_padding(plane, header, frames[index].layout)
                if padded is not None:
                    padding[index] = padded
        if padding.any() and lies_apart(values, padding, path):
            values[padding] = values[~padding].min()
        return values

    def _in_units(self, plane: np.ndarray, frame: Frame) -> np.ndarray:
        transform = modality_of(frame.header, frame.layout, frame.macro)
        if self.config.rescale == "require":
            kind = frame.macro.word("RescaleType")
            if not transform.stated or kind not in ("", self.config.units.upper()):
                statement = f"RescaleType {kind}" if transform.stated else "no RescaleSlope and RescaleIntercept"
                raise UserError(
                    f"{frame.path}: states {statement}, so its numbers are not in {self.config.units}; export it with"
                    ' them, or set rescale = "where_given" if you know that they are'
                )
        elif frame.layout.inverted:
            raise UserError(f"{frame.path}: is MONOCHROME1, so small values may mean much or little; convert it")
        return transform.apply(plane)


def _stored(frame: Frame) -> dict[str, Any]:
    """Return what a writer or a reader of results may want to know, and nothing that could name a patient."""
    header = frame.header
    stored: dict[str, Any] = {"bits": frame.layout.bits_stored}
    stored |= {
        name: number for keyword, name in _ACQUISITION.items() if (number := _first(header, keyword)) is not None
    }
    window = _first(header, "WindowCenter"), _first(header, "WindowWidth")
    return stored if None in window else {**stored, "window": list(window)}


def _first(header: Header, keyword: str) -> float | None:
    numbers = header.numbers(keyword)
    return numbers[0] if numbers else None


def as_marked(geometry: Geometry, mark: Mark, path: Path) -> Geometry:
    """Return the written geometry exactly; that of the headers where a slice was taken out or the image moved."""
    written = mark.geometry(geometry.shape, path) if mark.shape == geometry.shape else None
    if written is None:
        return geometry
    # A slice has a thickness, but no next slice: DICOM does not say on which side that would be.
    columns = [0, 1, 3] if len(geometry.shape) == 2 else [0, 1, 2, 3]
    off = np.abs(written.affine - geometry.affine)[:, columns].max()
    return written if off < _SAME_POSITION_MM else geometry
