"""A reader of images that come in several formats: NIfTI, MetaImage, DICOM, or exported pictures."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.dicom.instance import is_dicom
from core.io.dicom.radiograph import RadiographReaderConfig
from core.io.dicom.segmentation import SegmentationReaderConfig
from core.io.dicom.series import SeriesReaderConfig
from core.io.files import opening, require_file, require_no_nul
from core.io.image import ImageReaderConfig
from core.io.metaimage import MetaImageReader
from core.io.nifti import NiftiReaderConfig
from core.types import DataFile, FileRef, Sample, file_ref, path_on_disk


class AnyFormatReaderConfig(PartConfig):
    """A reader of the formats that are given: NIfTI, pictures, DICOM as ``series``, ``radiograph`` or ``segmentation``.

    MetaImage is read with the settings of NIfTI.
    A picture has lost units and position: leave ``image`` out where the units matter and cannot be stated.
    """

    nifti: NiftiReaderConfig | None = None
    image: ImageReaderConfig | None = None
    series: SeriesReaderConfig | None = None
    radiograph: RadiographReaderConfig | None = None
    segmentation: SegmentationReaderConfig | None = None

    @model_validator(mode="after")
    def _require_format(self) -> AnyFormatReaderConfig:
        dicom = (self.series, self.radiograph, self.segmentation)
        if dicom.count(None) < 2:
            raise ValueError("DICOM files are read as a series, a radiograph or a segmentation, not as several")
        if not any((self.nifti, self.image, *dicom)):
            raise ValueError("give at least one of nifti, image, series, radiograph and segmentation")
        return self

    def build(self) -> AnyFormatReader:
        """Make the reader."""
        return AnyFormatReader(self)


class AnyFormatReader:
    """Choose the reader by the file's suffix; a folder, and a file that starts as DICOM does, is DICOM."""

    def __init__(self, config: AnyFormatReaderConfig) -> None:
        volumes = () if config.nifti is None else (config.nifti.build(), MetaImageReader(config.nifti))
        dicom = config.series or config.radiograph or config.segmentation
        self.dicom = None if dicom is None else dicom.build()
        pictures = () if config.image is None else (config.image.build(),)
        self.readers: tuple[Any, ...] = (*volumes, *pictures, *(() if self.dicom is None else (self.dicom,)))
        self.suffixes = tuple(suffix for reader in self.readers for suffix in reader.suffixes)

    def read(self, path: DataFile) -> Sample:
        """Return what the reader of this format gives; `UserError` that names the file where no reader fits."""
        path = file_ref(path if isinstance(path, FileRef) else require_no_nul(path))
        for reader in self.readers:
            if path_on_disk(path).name.lower().endswith(reader.suffixes):
                return reader.read(path)
        if isinstance(path, FileRef):
            raise self._unknown_format(path)
        with opening(path):
            folder = path.is_dir()
        if self.dicom is not None and (folder or is_dicom(path)):
            return self.dicom.read(path)
        if not folder:
            require_file(path, ("",))
        raise self._unknown_format(path)

    def _unknown_format(self, path: DataFile) -> UserError:
        return UserError(
            f"{path}: this reader reads {', '.join(self.suffixes)}; convert the file, or set reader.image for pictures"
        )
