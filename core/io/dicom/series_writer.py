"""`Sample` to a CT or MR series: a folder with an instance per slice, or one file for a slice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from core.contract.modality import PartConfig
from core.io.dicom.mark import new_mark
from core.io.dicom.new_instance import (
    SUFFIX,
    SeriesAttributes,
    add_derived_image,
    frame_of_reference_uid,
    new_instance,
    require_suffix,
    save_instance,
)
from core.io.dicom.plane import Plane, decimal, planes, stored_levels
from core.io.provenance import Mark, write_marked, write_marked_folder
from core.types import Provenance, Sample

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# CT Image Storage and MR Image Storage (PS3.4 B.5), and value 3 of Image Type (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1).
_CLASSES = {"CT": ("1.2.840.10008.5.1.4.1.1.2", "AXIAL"), "MR": ("1.2.840.10008.5.1.4.1.1.4", "OTHER")}
_RESEARCH = "RM"  # Scanning Sequence of what no pulse sequence made
_SHARES = (0.005, 0.995)  # of the values, between which a window lies that nobody set


class Window(BaseModel):
    """How a viewer maps values, in units, to grey (PS3.3 C.11.2.1.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    centre: float
    width: Annotated[float, Field(ge=1)]
    name: Annotated[str, Field(max_length=64)] = ""


class DicomSeriesWriterConfig(PartConfig):
    """A writer of CT or MR Image Storage, signed 16 bits, stored in multiples of ``step`` units.

    ``dims`` 3: ``path`` is a folder with a file per slice, its name has no suffix; 2: a file ``.dcm``. ``windows``: the
    viewer's first choice first; none: the values themselves, without their extremes. ``body_part_term`` of PS3.16
    Annex L, such as HEAD, where it is known and unpaired. The standard gives MR no rescale,
    so a ``step`` other than 1 makes an MR a Standard Extended instance.
    """

    kind: Literal["CT", "MR"]
    dims: Literal[2, 3]
    units: str = "a.u."
    step: PositiveFloat = 1.0
    windows: tuple[Window, ...] = ()
    body_part_term: str = ""
    series_number: PositiveInt = 1

    def build(self) -> DicomSeriesWriter:
        """Make the writer."""
        return DicomSeriesWriter(self)


class DicomSeriesWriter:
    """Writes float32 ``1 *space``; array axes are slices, rows, columns. ``tolerance``: half a step, in units."""

    def __init__(self, config: DicomSeriesWriterConfig) -> None:
        self.config = config
        self.suffix = SUFFIX if config.dims == 2 else ""
        self.tolerance = 0.5 * config.step

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Write ``path`` (a file, or a folder of files) and ``<path>.json``, or neither.

        `UserError`: it exists, the name has another suffix, no geometry, more than one channel, rows that are not
        square to columns, or values beyond 16 bits.
        """
        path = require_suffix(path, self.suffix)
        mark = new_mark(sample, provenance, self.config.units)
        slices = self.instances(sample, path, provenance)

        def save_all(temporary: Path) -> None:
            for number, dataset in enumerate(slices, 1):
                save_instance(dataset, temporary / f"{number:04d}{SUFFIX}")

        if self.config.dims == 3:
            write_marked_folder(path, mark, save_all, SUFFIX, overwrite=overwrite)
        else:
            write_marked(path, mark, lambda temporary: save_instance(slices[0], temporary), overwrite=overwrite)

    def instances(self, sample: Sample, path: Path, provenance: Provenance) -> list[Dataset]:
        """Return an instance per slice, in the order of the first array axis. ``path`` is what an error names."""
        config, limits = self.config, np.iinfo(np.int16)
        levels = stored_levels(sample, path, config.dims, config.step, (limits.min, limits.max))
        assert sample.geometry is not None  # noqa: S101  # stored_levels has looked
        where = planes(sample.geometry, path)
        series = _series_attributes(config, sample, provenance, new_mark(sample, provenance, config.units))
        windows = config.windows or (_default_window(levels, config.step),)
        return [
            self._instance(series, plane, number, levels[number - 1], windows) for number, plane in enumerate(where, 1)
        ]

    def _instance(
        self, series: SeriesAttributes, plane: Plane, number: int, levels: np.ndarray, windows: tuple[Window, ...]
    ) -> Dataset:
        dataset = new_instance(series, number)
        add_derived_image(dataset, series.mark, _CLASSES[self.config.kind][1])
        _add_plane(dataset, plane, series.provenance)
        if self.config.dims == 3:
            dataset.SpacingBetweenSlices = decimal(plane.thickness_mm)
        _add_body_part(dataset, self.config.body_part_term)
        _add_acquisition(dataset, self.config)
        _add_windows(dataset, windows)
        _add_pixels(dataset, levels)
        return dataset


def _series_attributes(
    config: DicomSeriesWriterConfig, sample: Sample, provenance: Provenance, mark: Mark
) -> SeriesAttributes:
    return SeriesAttributes(
        sample=sample,
        provenance=provenance,
        mark=mark,
        sop_class=_CLASSES[config.kind][0],
        modality=config.kind,
        number=config.series_number,
    )


def _default_window(levels: np.ndarray, step: float) -> Window:
    low, high = (float(share) * step for share in np.quantile(levels, _SHARES))
    return Window(centre=round((low + high) / 2, 3), width=round(max(1.0, high - low), 3))


def _add_plane(dataset: Dataset, plane: Plane, provenance: Provenance) -> None:
    """Add the modules Frame of Reference and Image Plane (PS3.3 C.7.4.1, C.7.6.2)."""
    dataset.FrameOfReferenceUID = frame_of_reference_uid(provenance)
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.ImagePositionPatient = [decimal(value) for value in plane.position_mm]
    dataset.ImageOrientationPatient = [decimal(value) for value in plane.orientation]
    dataset.PixelSpacing = [decimal(value) for value in plane.spacing_mm]
    dataset.SliceThickness = decimal(plane.thickness_mm)


def _add_body_part(dataset: Dataset, term: str) -> None:
    if term:
        del dataset.Laterality
        dataset.BodyPartExamined = term


def _add_acquisition(dataset: Dataset, config: DicomSeriesWriterConfig) -> None:
    """Add the modules CT Image and MR Image (PS3.3 C.8.2.1, C.8.3.1); what a scanner would state stays empty."""
    dataset.AcquisitionNumber = None
    if config.kind == "CT":
        dataset.KVP = None
        dataset.RescaleType = config.units
    else:
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = _RESEARCH, "NONE", ""
        dataset.MRAcquisitionType = ""
        dataset.RepetitionTime = dataset.EchoTime = dataset.EchoTrainLength = None
    if config.kind == "CT" or config.step != 1:
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", decimal(config.step)


def _add_windows(dataset: Dataset, windows: tuple[Window, ...]) -> None:
    dataset.WindowCenter = [decimal(window.centre) for window in windows]
    dataset.WindowWidth = [decimal(window.width) for window in windows]
    if any(window.name for window in windows):
        dataset.WindowCenterWidthExplanation = [window.name for window in windows]


def _add_pixels(dataset: Dataset, levels: np.ndarray) -> None:
    """Add the module Image Pixel: signed 16 bits."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = levels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = levels.astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"
