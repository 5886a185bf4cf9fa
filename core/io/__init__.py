"""File formats. They know nothing of modalities: a plugin says which units and directions its files have.

Reading a file that MedWeave wrote gives back the same numbers (within the writer's ``tolerance``) and the same
geometry, because every writer leaves a `Mark` in the file. Importing this package imports no file library.
"""

from typing import Any

from core.io.any_format import AnyFormatReaderConfig
from core.io.dicom.codes import (
    CHEST_FINDINGS,
    CHEST_ORGANS,
    Code,
    Segment,
    finding_segments,
    organ_segments,
)
from core.io.dicom.radiograph import RadiographReaderConfig, View
from core.io.dicom.radiograph_writer import DicomRadiographWriterConfig
from core.io.dicom.report_writer import DicomReportWriterConfig
from core.io.dicom.segmentation import SegmentationReaderConfig
from core.io.dicom.segmentation_writer import DicomSegWriterConfig
from core.io.dicom.series import SeriesReaderConfig
from core.io.dicom.series_writer import DicomSeriesWriterConfig, Window
from core.io.files import atomic_write, require_file
from core.io.geometry import SliceAt, centred
from core.io.image import ImageReaderConfig
from core.io.image_writer import ImageWriterConfig
from core.io.lock import lock_file
from core.io.nifti import NiftiReaderConfig, NiftiWriterConfig
from core.io.provenance import Mark
from core.io.text import TextReaderConfig, TextWriterConfig

__all__ = [
    "CHEST_FINDINGS",
    "CHEST_ORGANS",
    "AnyFormatReaderConfig",
    "Code",
    "DicomRadiographWriterConfig",
    "DicomReportWriterConfig",
    "DicomSegWriterConfig",
    "DicomSeriesWriterConfig",
    "ImageReaderConfig",
    "ImageWriterConfig",
    "Mark",
    "NiftiReaderConfig",
    "NiftiWriterConfig",
    "RadiographReaderConfig",
    "Segment",
    "SegmentationReaderConfig",
    "SeriesReaderConfig",
    "SliceAt",
    "TextReaderConfig",
    "TextWriterConfig",
    "View",
    "Window",
    "atomic_write",
    "centred",
    "finding_segments",
    "lock_file",
    "organ_segments",
    "require_file",
]

# Former names, kept for one version so that plugins written for it load.
_FORMER = {"ScanReaderConfig": "AnyFormatReaderConfig", "readable": "require_file", "replacing": "atomic_write"}


def __getattr__(name: str) -> Any:
    if name not in _FORMER:
        raise AttributeError(f"module 'core.io' has no public name '{name}'")
    return globals()[_FORMER[name]]
