"""`Sample` to a Digital X-Ray image for presentation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import PositiveInt, model_validator

from core.contract.modality import PartConfig
from core.io.dicom.codes import CHEST, VIEWS, Code, View
from core.io.dicom.mark import new_mark
from core.io.dicom.new_instance import (
    SUFFIX,
    SeriesAttributes,
    add_derived_image,
    new_instance,
    require_suffix,
    save_instance,
)
from core.io.dicom.plane import decimal, patient_orientation, stored_levels
from core.io.provenance import write_marked
from core.types import Geometry, Provenance, Sample

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation


class DicomRadiographWriterConfig(PartConfig):
    """A writer of Digital X-Ray Image Storage, For Presentation (PS3.3 A.26).

    ``value_range``, in units, is spread over ``bits``. ``view``: PA, AP, left or right lateral. ``body_part`` and its
    term in PS3.16 Annex L are those of an unpaired part.
    """

    view: View
    value_range: tuple[float, float] = (0.0, 1.0)
    units: str = "a.u."
    bits: Literal[12, 16] = 16
    body_part: Code = CHEST
    body_part_term: str = "CHEST"
    series_number: PositiveInt = 1

    @model_validator(mode="after")
    def _range_has_width(self) -> DicomRadiographWriterConfig:
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError("value_range needs low < high")
        return self

    def build(self) -> DicomRadiographWriter:
        """Make the writer."""
        return DicomRadiographWriter(self)


class DicomRadiographWriter:
    """Writes float32 ``1 H W``, array axes rows and columns. ``tolerance``: half a grey level, in units."""

    suffix = SUFFIX

    def __init__(self, config: DicomRadiographWriterConfig) -> None:
        self.config = config
        low, high = config.value_range
        self.tolerance = 0.5 * (high - low) / (2**config.bits - 1)

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Write ``path`` and ``<path>.json``, or neither.

        `UserError`: the file exists, no geometry, more than one channel, or values beyond ``value_range``.
        """
        path = require_suffix(path)
        levels = stored_levels(sample, path, 2, self._step, (0, 2**self.config.bits - 1), self.config.value_range[0])
        mark = new_mark(sample, provenance, self.config.units, self.config.value_range)
        series = SeriesAttributes(
            sample=sample,
            provenance=provenance,
            mark=mark,
            sop_class=_SOP_CLASS,
            modality="DX",
            number=self.config.series_number,
        )
        assert sample.geometry is not None  # noqa: S101  # stored_levels has looked
        dataset = self._instance(series, sample.geometry, levels[0])
        write_marked(path, series.mark, lambda temporary: save_instance(dataset, temporary), overwrite=overwrite)

    @property
    def _step(self) -> float:
        return 2 * self.tolerance

    def _instance(self, series: SeriesAttributes, geometry: Geometry, levels: np.ndarray) -> Dataset:
        dataset = new_instance(series)
        add_derived_image(dataset, series.mark)
        dataset.PatientOrientation = patient_orientation(geometry)
        _add_projection(dataset, self.config)
        dataset.ImagerPixelSpacing = [decimal(value) for value in geometry.spacing_mm]
        _add_grey(dataset, self.config.bits)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = levels.shape
        dataset.PixelData = levels.astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        return dataset


def _add_projection(dataset: Dataset, config: DicomRadiographWriterConfig) -> None:
    """DX Series, DX Anatomy Imaged, DX Detector, DX Positioning, Acquisition Context (PS3.3 C.8.11.1 to 5)."""
    dataset.PresentationIntentType = "FOR PRESENTATION"
    del dataset.Laterality
    dataset.ImageLaterality = "U"
    dataset.BodyPartExamined = config.body_part_term
    dataset.AnatomicRegionSequence = config.body_part.sequence()
    dataset.DetectorType = dataset.PositionerType = ""
    dataset.ViewPosition = config.view
    view = VIEWS[config.view].dataset()
    view.ViewModifierCodeSequence = []
    dataset.ViewCodeSequence = [view]
    dataset.AcquisitionContextSequence = []


def _add_grey(dataset: Dataset, bits: int) -> None:
    """DX Image and VOI LUT (PS3.3 C.8.11.3, C.11.2): bright is dense, and the window shows the whole range as it is."""
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, bits, bits - 1, 0
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.WindowCenter, dataset.WindowWidth = str(2 ** (bits - 1)), str(2**bits)
