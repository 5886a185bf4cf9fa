"""`Sample` of text to a DICOM structured report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.dicom.codes import Code
from core.io.dicom.mark import new_mark, write_report_text
from core.io.dicom.new_instance import SUFFIX, SeriesAttributes, new_instance, printable, require_suffix, save_instance
from core.io.dicom.report import HEADINGS, SOP_CLASS, split_sections
from core.io.provenance import write_marked
from core.types import Provenance, Sample

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_TITLE = Code(value="18748-4", meaning="Diagnostic imaging report", scheme="LN")  # PS3.16 CID 7000
_EMPTY = ("finding", "(no text)")  # a document needs some content
_LANGUAGE = Code(value="121049", meaning="Language of Content Item and Descendants", scheme="DCM")


class DicomReportWriterConfig(PartConfig):
    """A writer of Basic Text SR (PS3.3 A.35.1). ``language`` of the text by RFC 5646."""

    language: Code = Code(value="en", meaning="English", scheme="RFC5646")
    series_number: PositiveInt = 1

    def build(self) -> DicomReportWriter:
        """Make the writer."""
        return DicomReportWriter(self)


class DicomReportWriter:
    """Writes a string as sections with coded titles, and as it stands: what is read back is equal.

    In the sections control characters, which DICOM forbids there, become U+FFFD.
    """

    suffix = SUFFIX
    tolerance = 0.0

    def __init__(self, config: DicomReportWriterConfig) -> None:
        self.config = config

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Write ``path`` and ``<path>.json``, or neither. `UserError`: the file exists, or the sample is no text."""
        path = require_suffix(path)
        if not isinstance(sample.data, str):
            raise UserError(f"{path}: token ids are no text; restore them with the preprocessor's invert first")
        mark = new_mark(sample, provenance, units="characters")
        series = SeriesAttributes(
            sample=sample,
            provenance=provenance,
            mark=mark,
            sop_class=SOP_CLASS,
            modality="SR",
            number=self.config.series_number,
        )
        text = sample.data.encode(errors="replace").decode()
        dataset = _document(series, printable(text), self.config)
        write_report_text(dataset, text)
        write_marked(path, mark, lambda temporary: save_instance(dataset, temporary), overwrite=overwrite)


def _document(series: SeriesAttributes, text: str, config: DicomReportWriterConfig) -> Dataset:
    """SR Document Series, General and Content (PS3.3 C.17.1 to 3), read and verified by nobody."""
    dataset = new_instance(series)
    del dataset.Laterality
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = _TITLE.sequence()
    language = _item("HAS CONCEPT MOD", "CODE", _LANGUAGE)
    language.ConceptCodeSequence = config.language.sequence()
    dataset.ContentSequence = [language, *(_section(*section) for section in split_sections(text) or [_EMPTY])]
    return dataset


def _section(heading: str, text: str) -> Dataset:
    titles = HEADINGS[heading]
    section, content = _item("CONTAINS", "CONTAINER", titles.section), _item("CONTAINS", "TEXT", titles.text)
    content.TextValue = text.replace("\n", "\r\n")
    section.ContinuityOfContent = "SEPARATE"
    section.ContentSequence = [content]
    return section


def _item(relation: str, kind: str, name: Code) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.RelationshipType, item.ValueType = relation, kind
    item.ConceptNameCodeSequence = name.sequence()
    return item
