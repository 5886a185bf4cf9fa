"""Read UTF-8 text and DICOM structured reports; write UTF-8 text."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.dicom.instance import is_dicom
from core.io.dicom.report import read_report
from core.io.files import opening, require_file, require_no_nul
from core.io.provenance import SYNTHETIC, Mark, sidecar_mark, write_marked
from core.io.report_sections import SectionName, Titles, join_sections, section_names, split_sections
from core.types import Provenance, Sample

_OTHER_BOMS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class TextReaderConfig(PartConfig):
    """A reader of UTF-8 text and of DICOM structured reports. ``max_bytes`` guards against a file that is no report.

    ``sections``: the sections that are read of a report, in this order (see `core.io.report_sections`); left out, the
    whole text. ``missing``: whether a report without any of them is refused or read whole. ``titles``: headings of a
    hospital beyond the usual ones, by section. All three hold for texts that stand in a table too.
    """

    modality: str
    max_bytes: PositiveInt = 1_000_000
    sections: tuple[SectionName, ...] = ()
    missing: Literal["refuse", "whole"] = "refuse"
    titles: Titles = Field(default_factory=dict)

    @model_validator(mode="after")
    def _require_sections(self) -> TextReaderConfig:
        if len(set(self.sections)) < len(self.sections):
            raise ValueError("a section is named twice")
        if not all(title.strip() for more in self.titles.values() for title in more):
            raise ValueError("a title is empty")
        return self

    def build(self) -> TextReader:
        """Make the reader."""
        return TextReader(self)


class TextReader:
    """Read a text file, or a file that is DICOM whatever its name, into a string. Text has no geometry."""

    suffixes = (".txt", ".dcm")

    def __init__(self, config: TextReaderConfig) -> None:
        self.config = config

    def read(self, path: Path) -> Sample:
        """Return the text without byte order mark, final newline and the line that says synthetic.

        Lines end with ``\\n``.

        A structured report gives its texts in order, each behind its title. Raises `UserError` for a file that is not
        UTF-8 (with the byte offset), is binary or no structured report, holds no text, is too long or cannot be opened.
        """
        path = require_no_nul(path)
        dicom = is_dicom(path) or path.suffix.lower() == ".dcm"
        path = require_file(path, ("",) if dicom else self.suffixes)
        with opening(path):
            size = path.stat().st_size
            if size > self.config.max_bytes:
                raise UserError(f"{path}: {size} bytes, more than max_bytes = {self.config.max_bytes}")
            content = path.read_bytes()
        if dicom:
            return self._report(path)
        text = _decode(content, path).replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
        meta: dict[str, object] = {"path": str(path)}
        if text == SYNTHETIC or text.endswith(f"\n{SYNTHETIC}"):
            text = text.removesuffix(SYNTHETIC).removesuffix("\n")
            mark = sidecar_mark(path)
            meta |= {"synthetic": True} if mark is None else mark.meta()
        elif not text.strip():
            raise UserError(f"{path}: holds no text, only white space; remove it from the manifest")
        text = self.select_sections(text, str(path), synthetic="synthetic" in meta)
        return Sample(modality=self.config.modality, data=text, meta=meta)

    def select_sections(self, text: str, where: str, *, synthetic: bool = False) -> str:
        """Return the configured sections; `UserError` that begins with ``where`` where a report has none of them.

        A report that MedWeave wrote may be one section without its heading: without any heading it is read whole.
        """
        config = self.config
        if not config.sections:
            return text
        selected = join_sections(text, config.sections, config.titles)
        if selected is None and config.missing == "refuse" and not synthetic:
            present = ", ".join(section_names(split_sections(text, config.titles))) or "no known heading"
            raise UserError(
                f"{where}: has no {' or '.join(config.sections)} (it has {present}); leave it out, name its heading in"
                " the reader's titles, or set missing = 'whole'"
            )
        return text if selected is None else selected

    def _report(self, path: Path) -> Sample:
        text, mark = read_report(path)
        text = self.select_sections(text, str(path), synthetic=mark is not None)
        meta = {"path": str(path), **({} if mark is None else mark.meta())}
        return Sample(modality=self.config.modality, data=text, meta=meta)


class TextWriterConfig(PartConfig):
    """A writer of UTF-8 text, whose last line says that it is synthetic; how it was made stands in ``<path>.json``."""

    def build(self) -> TextWriter:
        """Make the writer."""
        return TextWriter()


class TextWriter:
    """Write a string; what is read back is equal, but for line ends."""

    suffix = ".txt"
    tolerance = 0.0

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Write ``path`` and ``<path>.json``, or neither; `UserError`: the file exists, or the sample is no text."""
        if not isinstance(sample.data, str):
            raise UserError(f"{path}: token ids are no text; restore them with the preprocessor's invert first")
        mark = Mark.of(sample, provenance, units="characters")
        content = f"{sample.data}\n{SYNTHETIC}\n".encode(errors="replace")
        write_marked(Path(path), mark, lambda temporary: temporary.write_bytes(content), overwrite=overwrite)


def _decode(content: bytes, path: Path) -> str:
    for bom, name in _OTHER_BOMS.items():
        if content.startswith(bom):
            raise UserError(f"{path}: is {name} (byte order mark at byte 0), expected UTF-8; convert it")
    if (nul := content.find(b"\0")) >= 0:
        raise UserError(f"{path}: holds a NUL byte at byte {nul}, so it is no UTF-8 text; convert it")
    skipped = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    try:
        return content[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + skipped
        raise UserError(f"{path}: byte {at} (0x{content[at]:02x}) is not UTF-8; convert the file to UTF-8") from error
