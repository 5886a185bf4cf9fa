"""`Sample` of labels to a DICOM segmentation, which refers to the series that it was drawn on where that is there."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.dicom.codes import Code, Segment
from core.io.dicom.mark import new_mark
from core.io.dicom.new_instance import (
    MAKER,
    SUFFIX,
    SeriesAttributes,
    derived_uid,
    instance_uid,
    new_instance,
    require_suffix,
    save_instance,
)
from core.io.dicom.plane import stored_levels
from core.io.dicom.series_writer import DicomSeriesWriterConfig
from core.io.files import decoding
from core.io.provenance import SYNTHETIC, write_marked
from core.types import Provenance, Sample

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SOP_CLASSES = {"binary": "1.2.840.10008.5.1.4.1.1.66.4", "labelmap": "1.2.840.10008.5.1.4.1.1.66.7"}
_ALGORITHM = Code(value="123110", meaning="Artificial Intelligence", scheme="DCM")  # PS3.16 CID 7162
_MOST = 65_535
_PLANE_KEYS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_SAME = ("Rows", "Columns", "StudyInstanceUID", "FrameOfReferenceUID")
_NEAR_MM = 0.01  # two slices nearer than this are one


class DicomSegWriterConfig(PartConfig):
    """A writer of Segmentation Storage (``binary``: every viewer) or Label Map Segmentation Storage (``labelmap``).

    Label ``i`` is ``segments[i - 1]``, 0 is nothing. ``source``: the name, without suffix, of the series next to the
    file that the labels lie on; without it, or where it is not there or lies elsewhere, nothing is referred to.
    """

    segments: tuple[Segment, ...] = Field(min_length=1, max_length=_MOST)
    dims: Literal[2, 3]
    form: Literal["binary", "labelmap"] = "binary"
    source: str | None = None
    series_number: PositiveInt = 1

    @model_validator(mode="after")
    def _names_differ(self) -> DicomSegWriterConfig:
        if len({segment.name for segment in self.segments}) < len(self.segments):
            raise ValueError("two segments have one name")
        return self

    def build(self) -> DicomSegWriter:
        """Make the writer."""
        return DicomSegWriter(self)


class DicomSegWriter:
    """Writes labels, float32 ``1 *space`` of whole numbers; array axes are slices, rows, columns. Exact.

    ``refers_to``: what must lie next to the file before it is written, for the references to be there.
    """

    suffix = SUFFIX
    tolerance = 0.0

    def __init__(self, config: DicomSegWriterConfig) -> None:
        self.config = config
        self.refers_to = config.source

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Write ``path`` and ``<path>.json``, or neither.

        `UserError`: the file exists, no geometry, a projection, or values that are no label.
        """
        path, config = require_suffix(path), self.config
        labels = _labels(sample, path, config)
        mark = new_mark(sample, provenance, units="label")
        series = SeriesAttributes(
            sample=sample,
            provenance=provenance,
            mark=mark,
            sop_class=_SOP_CLASSES[config.form],
            modality="SEG",
            number=config.series_number,
        )
        slices = _mask_slices(sample, path, provenance, config)
        source_slices = _source_slices(path, config.source, slices)
        dataset = _segmentation(series, labels, source_slices or slices, config)
        if not source_slices:
            _forget_sources(dataset)
        write_marked(path, mark, lambda temporary: save_instance(dataset, temporary), overwrite=overwrite)


def _labels(sample: Sample, path: Path, config: DicomSegWriterConfig) -> np.ndarray:
    """Return whole numbers, ``slices rows columns``."""
    if sample.geometry is not None and sample.geometry.source_header.get("projection"):
        raise UserError(f"{path}: is a mask of a projection, which has no place in the patient; write it as a picture")
    levels = stored_levels(sample, path, config.dims, 1.0, (0, len(config.segments)))
    if not np.array_equal(levels, np.asarray(sample.data, dtype=np.float64).reshape(levels.shape)):
        raise UserError(f"{path}: the mask holds values between whole numbers; round them to labels")
    return levels.astype(np.uint8 if len(config.segments) < 256 else np.uint16)


def _mask_slices(sample: Sample, path: Path, provenance: Provenance, config: DicomSegWriterConfig) -> list[Dataset]:
    """Return the planes of the mask as instances that are nowhere stored: they say where the frames lie."""
    return DicomSeriesWriterConfig(kind="CT", dims=config.dims).build().instances(sample, path, provenance)


def _source_slices(path: Path, source: str | None, mask_slices: list[Dataset]) -> list[Dataset]:
    """Return the source's headers in the order of the mask's slices; none where they lie elsewhere."""
    if source is None:
        return []
    from pydicom import dcmread

    folder, file = path.parent / source, path.parent / f"{source}{SUFFIX}"
    files = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else [file] if file.is_file() else []
    headers: list[Dataset] = []
    for file in files:
        with decoding(file, "DICOM"):
            headers.append(dcmread(file, stop_before_pixels=True))
    return headers if len(headers) == len(mask_slices) and all(map(_is_same_plane, headers, mask_slices)) else []


def _is_same_plane(first: Dataset, second: Dataset) -> bool:
    if any(first.get(key) is None for key in (*_PLANE_KEYS, *_SAME)):
        return False
    near = [
        np.allclose(np.float64(first[key].value), np.float64(second[key].value), rtol=0, atol=_NEAR_MM)
        for key in _PLANE_KEYS
    ]
    return all(near) and all(first[key].value == second[key].value for key in _SAME)


def _segmentation(
    series: SeriesAttributes, labels: np.ndarray, slices: list[Dataset], config: DicomSegWriterConfig
) -> Any:
    """Return highdicom's instance, with our patient, dates and mark, and without anything random in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty segment and an unusual code are said to be so
        from highdicom.seg import Segmentation

        dataset = Segmentation(
            source_images=slices,
            pixel_array=labels,
            segmentation_type=config.form.upper(),
            segment_descriptions=[_described(number, segment) for number, segment in enumerate(config.segments, 1)],
            series_instance_uid=series.uid,
            series_number=series.number,
            sop_instance_uid=instance_uid(series.uid, 1),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=MAKER,
            software_versions="1",
            device_serial_number="0",
            content_label="SYNTHETIC",
            omit_empty_frames=bool(labels.any()),
        )
    ours = new_instance(series)
    del ours.Laterality
    dataset.update({element.tag: element for element in ours})
    dataset.ContentDescription = SYNTHETIC
    _make_repeatable(dataset, series)
    return dataset


def _described(number: int, segment: Segment) -> Any:
    import highdicom
    from highdicom.seg import SegmentDescription

    coded = {
        key: highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning)
        for key, code in (("category", segment.category), ("kind", segment.kind), ("family", _ALGORITHM))
    }
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=coded["category"],
        segmented_property_type=coded["kind"],
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=MAKER, version="1", family=coded["family"]
        ),
    )


def _make_repeatable(dataset: Dataset, series: SeriesAttributes) -> None:
    """Replace what highdicom takes from the clock and draws at random."""
    for key in ("InstanceCreationDate", "InstanceCreationTime"):
        if key in dataset:
            del dataset[key]
    uid = derived_uid("dimensions", series.uid)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _forget_sources(dataset: Dataset) -> None:
    """Remove references to instances that are not stored anywhere."""
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        if "DerivationImageSequence" in frame:
            del frame.DerivationImageSequence
    for key in ("ReferencedSeriesSequence", "SourceImageSequence", "StudiesContainingOtherReferencedInstancesSequence"):
        if key in dataset:
            del dataset[key]
