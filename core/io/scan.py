"""One reader for scans that some data sets keep as NIfTI and others as exported pictures."""

from __future__ import annotations

from pathlib import Path

from core.errors import UserError
from core.io.image import ImageReader, ImageReaderConfig
from core.io.nifti import NiftiReader, NiftiReaderConfig
from core.modality import PartConfig
from core.types import Sample


class ScanReaderConfig(PartConfig):
    """NIfTI, and pictures where ``image`` is given.

    A picture has lost units and position: leave ``image`` out where the units matter and cannot be stated.
    """

    nifti: NiftiReaderConfig
    image: ImageReaderConfig | None = None

    def build(self) -> ScanReader:
        """Make the reader."""
        return ScanReader(self)


class ScanReader:
    """Chooses the reader by the file's suffix."""

    def __init__(self, config: ScanReaderConfig) -> None:
        readers: list[NiftiReader | ImageReader] = [config.nifti.build()]
        if config.image is not None:
            readers.append(config.image.build())
        self.readers = tuple(readers)
        self.suffixes = tuple(suffix for reader in readers for suffix in reader.suffixes)

    def read(self, path: Path) -> Sample:
        """The scan as its own reader gives it; `UserError` that names the file otherwise."""
        for reader in self.readers:
            if Path(path).name.lower().endswith(reader.suffixes):
                return reader.read(path)
        raise UserError(f"{path}: this reader reads {', '.join(self.suffixes)}; convert the file, or set image")
