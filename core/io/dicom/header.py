"""The header of a DICOM instance: the elements that geometry and values need, checked as they are asked for.

Elements that could name a patient are not among them, so nothing read here can carry one into a `Sample`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from core.io.dicom.mark import ELEMENT, GROUP
from core.io.files import decoding

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEYWORDS = """
SOPClassUID Modality ImageType SeriesInstanceUID FrameOfReferenceUID SeriesNumber
SeriesDescription InstanceNumber SyntheticData
BurnedInAnnotation PresentationIntentType ViewPosition ViewCodeSequence PatientOrientation
SamplesPerPixel PhotometricInterpretation NumberOfFrames Rows Columns PixelAspectRatio BitsAllocated BitsStored HighBit
PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit PlanarConfiguration ExtendedOffsetTable
ExtendedOffsetTableLengths
PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing ImagePositionPatient ImageOrientationPatient SliceThickness
SpacingBetweenSlices
RescaleSlope RescaleIntercept RescaleType ModalityLUTSequence VOILUTSequence WindowCenter WindowWidth VOILUTFunction
PresentationLUTShape SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
EchoTime RepetitionTime InversionTime FlipAngle MagneticFieldStrength KVP AcquisitionNumber TemporalPositionIdentifier
DiffusionBValue TriggerTime InConcatenationTotalNumber
SegmentationType MaximumFractionalValue SegmentSequence
PixelData FloatPixelData DoubleFloatPixelData
""".split()  # noqa: SIM905  # a list of words reads better
_RESERVED = 0x10  # the first block of a private group


def wanted_tags() -> list[Any]:
    """What is read of a file: `Header` answers for nothing else."""
    return [*_KEYWORDS, (GROUP << 16) | _RESERVED, (GROUP << 16) | (_RESERVED << 8) | ELEMENT]


@dataclass(frozen=True, eq=False)
class Header:
    """An instance, or an item of one of its sequences. Every error names ``path`` and the element."""

    path: Path
    dataset: Dataset

    def value(self, keyword: str) -> Any:
        """The element as pydicom has it; ``None`` where it is missing or empty."""
        with decoding(self.path, f"DICOM ({keyword})"):
            found = self.dataset.get(keyword)
            return None if found is None or (hasattr(found, "__len__") and len(found) == 0) else found

    def words(self, keyword: str) -> tuple[str, ...]:
        """The values as words in capitals, without those that are empty."""
        found = self.value(keyword)
        with decoding(self.path, f"DICOM ({keyword})"):
            several = found if hasattr(found, "__iter__") and not isinstance(found, (str, bytes)) else [found]
            return tuple(word for one in several if one is not None and (word := str(one).strip().upper()))

    def word(self, keyword: str) -> str:
        """The first word, ``""`` where there is none."""
        return next(iter(self.words(keyword)), "")

    def text(self, keyword: str) -> str:
        """The element as it stands, on one line and short, for messages."""
        found = self.value(keyword)
        return "" if found is None else " ".join(str(found).split())[:64]

    def numbers(self, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
        """Finite numbers, ``None`` where there are none; `UserError` where they are others, or not ``count``."""
        words = self.words(keyword)
        if not words:
            return None
        try:
            found = tuple(float(word) for word in words)
        except ValueError:
            found = ()
        if not found or not all(map(isfinite, found)) or count not in (None, len(found)):
            wanted = "numbers" if count is None else f"{count} finite number{'s' if count > 1 else ''}"
            raise UserError(
                f"{self.path}: {keyword} is {self.text(keyword)}, expected {wanted}; correct or export the file again"
            )
        return found

    def number(self, keyword: str) -> float | None:
        """One finite number, ``None`` where there is none."""
        found = self.numbers(keyword, 1)
        return None if found is None else found[0]

    def whole(self, keyword: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number within bounds; ``default`` where there is none and one is given."""
        found = self.number(keyword)
        if found is None and default is not None:
            return default
        if found is None or found != int(found) or not least <= found <= most:
            said = "missing" if found is None else f"{found:g}"
            raise UserError(
                f"{self.path}: {keyword} is {said}, expected a whole number from {least} to {most};"
                " correct or export the file again"
            )
        return int(found)

    def lengths_mm(self, keyword: str) -> tuple[float, float] | None:
        """Two lengths above 0 (between rows, between columns), mm; ``None`` where there are none."""
        found = self.numbers(keyword, 2)
        if found is None:
            return None
        if min(found) <= 1e-6 or max(found) > 1e4:
            raise UserError(f"{self.path}: {keyword} is {self.text(keyword)}, expected lengths above 0 mm; correct it")
        return found[0], found[1]

    def vector(self, keyword: str, count: int) -> np.ndarray | None:
        """Coordinates or cosines as float64; `UserError` where one is beyond any patient (100 m)."""
        found = self.numbers(keyword, count)
        if found is None:
            return None
        if max(map(abs, found)) > 1e5:
            raise UserError(f"{self.path}: {keyword} is {self.text(keyword)}, beyond any patient; correct it")
        return np.array(found)

    def items(self, keyword: str) -> list[Header]:
        """The items of a sequence."""
        found = self.value(keyword)
        if found is None:
            return []
        from pydicom.sequence import Sequence

        if not isinstance(found, Sequence):
            raise UserError(f"{self.path}: {keyword} is no sequence; correct or export the file again")
        return [Header(self.path, item) for item in found]
