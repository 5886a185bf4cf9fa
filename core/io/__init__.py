"""File formats. They know nothing of modalities: a plugin says which units and directions its files have.

Reading a file that MedWeave wrote gives back the same numbers (within the writer's ``tolerance``) and the same
geometry, because every writer leaves a `Mark` in the file. Importing this package imports no file library.
"""

from core.io.axes import centred
from core.io.image import ImageReaderConfig
from core.io.image_writer import ImageWriterConfig
from core.io.mark import Mark
from core.io.nifti import NiftiReaderConfig
from core.io.nifti_writer import NiftiWriterConfig
from core.io.replace import replacing
from core.io.scan import ScanReaderConfig
from core.io.source import readable
from core.io.text import TextReaderConfig, TextWriterConfig

__all__ = [
    "ImageReaderConfig",
    "ImageWriterConfig",
    "Mark",
    "NiftiReaderConfig",
    "NiftiWriterConfig",
    "ScanReaderConfig",
    "TextReaderConfig",
    "TextWriterConfig",
    "centred",
    "readable",
    "replacing",
]
