"""The header of a DICOM instance: the elements that geometry and values need, checked as they are asked for.

Elements that could name a patient are not among them, so nothing read here can carry one into a `Sample`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from core.io.dicom.mark import ELEMENT, GROUP
from core.io.files import decoding

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

    from core.io.dicom.instance import DicomFile

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
# Values of two representations as nearly all files have them (PS3.5 6.2).
_PLAIN = {
    "CS": re.compile(rb"[A-Z0-9_ ]*"),
    "DS": re.compile(rb" *[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})? *"),
}


@cache
def wanted_tags() -> list[BaseTag]:
    """Return the tags that are read of a file; a `Header` answers for nothing else."""
    from pydicom.tag import Tag

    return [Tag(tag) for tag in (*_KEYWORDS, (GROUP << 16) | _RESERVED, (GROUP << 16) | (_RESERVED << 8) | ELEMENT)]


@cache
def _tag_of(keyword: str) -> BaseTag | None:
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    tag = tag_for_keyword(keyword)
    return None if tag is None else Tag(tag)


def _plain_words(element: Any) -> tuple[str, ...] | None:
    """Return the words of numbers and codes that the standard allows as they stand; ``None``: pydicom decodes them.

    pydicom would say the same of them, ten times slower, and warn of others.
    """
    if element is None or not element.is_raw or element.VR not in _PLAIN or not element.value:
        return None
    parts = element.value.split(b"\\")
    if not all(len(part) <= 16 and _PLAIN[element.VR].fullmatch(part) for part in parts):
        return None
    return tuple(word for part in parts if (word := part.decode("ascii").strip().upper()))


@dataclass(frozen=True, eq=False)
class Header:
    """An instance, or an item of one of its sequences. Every error names ``path`` and the element.

    ``file``: the file of an instance; ``None`` for an item. What was looked up is kept: pydicom decodes it each time.
    """

    path: Path
    dataset: Dataset
    file: DicomFile | None = None
    _values: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _words: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False)
    _items: dict[str, list[Header]] = field(default_factory=dict, init=False, repr=False)

    def value(self, keyword: str) -> Any:
        """Return the element as pydicom has it; ``None`` where it is missing or empty."""
        if keyword not in self._values:
            try:
                self._values[keyword] = self._decoded(keyword)
            except Exception:
                with decoding(self.path, f"DICOM ({keyword})"):
                    raise
        return self._values[keyword]

    def _decoded(self, keyword: str) -> Any:
        element = self._element(keyword)
        if element is None:
            return None
        if element.is_raw and element.VR == "US" and len(element.value or b"") == 2:
            return int.from_bytes(element.value, "little" if element.is_little_endian else "big")
        try:
            value = self.dataset[element.tag].value
        except AttributeError:  # as `Dataset.get` has it
            return None
        return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value

    def _element(self, keyword: str) -> Any:
        """Return what pydicom has of an element: its bytes (`is_raw`) until they are decoded; ``None`` without it."""
        tag = _tag_of(keyword)
        return None if tag is None else self.dataset.get_item(tag, keep_deferred=True)

    def words(self, keyword: str) -> tuple[str, ...]:
        """Return the values as words in capitals, without those that are empty."""
        if keyword not in self._words:
            words = _plain_words(self._element(keyword))
            self._words[keyword] = self._decoded_words(keyword) if words is None else words
        return self._words[keyword]

    def _decoded_words(self, keyword: str) -> tuple[str, ...]:
        value = self.value(keyword)
        with decoding(self.path, f"DICOM ({keyword})"):
            several = value if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) else [value]
            words = (str(part).strip().upper() for part in several if part is not None)
            return tuple(word for word in words if word)

    def word(self, keyword: str) -> str:
        """Return the first word, ``""`` where there is none."""
        return next(iter(self.words(keyword)), "")

    def text(self, keyword: str) -> str:
        """Return the element as it stands, on one line and short, for messages."""
        value = self.value(keyword)
        return "" if value is None else " ".join(str(value).split())[:64]

    def numbers(self, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
        """Return finite numbers, ``None`` where there are none; `UserError` for others, or not ``count`` of them."""
        words = self.words(keyword)
        if not words:
            return None
        try:
            numbers = tuple(float(word) for word in words)
        except ValueError:
            numbers = ()
        if not numbers or not all(map(isfinite, numbers)) or count not in (None, len(numbers)):
            wanted = "numbers" if count is None else f"{count} finite number{'s' if count > 1 else ''}"
            raise UserError(
                f"{self.path}: {keyword} is {self.text(keyword)}, expected {wanted}; correct or export the file again"
            )
        return numbers

    def number(self, keyword: str) -> float | None:
        """Return one finite number, ``None`` where there is none."""
        numbers = self.numbers(keyword, 1)
        return None if numbers is None else numbers[0]

    def whole(self, keyword: str, least: int, most: int, default: int | None = None) -> int:
        """Return a whole number from ``least`` to ``most``; ``default``, where it is given, for a missing one."""
        number = self.number(keyword)
        if number is None and default is not None:
            return default
        if number is None or number != int(number) or not least <= number <= most:
            stated = "missing" if number is None else f"{number:g}"
            raise UserError(
                f"{self.path}: {keyword} is {stated}, expected a whole number from {least} to {most};"
                " correct or export the file again"
            )
        return int(number)

    def lengths_mm(self, keyword: str) -> tuple[float, float] | None:
        """Return two lengths above 0 (between rows, between columns), mm; ``None`` where there are none."""
        lengths = self.numbers(keyword, 2)
        if lengths is None:
            return None
        if min(lengths) <= 1e-6 or max(lengths) > 1e4:
            raise UserError(f"{self.path}: {keyword} is {self.text(keyword)}, expected lengths above 0 mm; correct it")
        return lengths[0], lengths[1]

    def vector(self, keyword: str, count: int) -> np.ndarray | None:
        """Return coordinates or cosines as float64; `UserError` for one beyond any patient (100 m)."""
        numbers = self.numbers(keyword, count)
        if numbers is None:
            return None
        if max(map(abs, numbers)) > 1e5:
            raise UserError(f"{self.path}: {keyword} is {self.text(keyword)}, beyond any patient; correct it")
        return np.array(numbers)

    def items(self, keyword: str) -> list[Header]:
        """Return the items of a sequence, none where it is missing."""
        if keyword not in self._items:
            self._items[keyword] = self._sequence(keyword)
        return self._items[keyword]

    def _sequence(self, keyword: str) -> list[Header]:
        value = self.value(keyword)
        if value is None:
            return []
        from pydicom.sequence import Sequence

        if not isinstance(value, Sequence):
            raise UserError(f"{self.path}: {keyword} is no sequence; correct or export the file again")
        return [Header(self.path, item) for item in value]
