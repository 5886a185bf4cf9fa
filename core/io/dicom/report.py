"""Reports as Basic Text SR: the sections of a report to coded headings, and the text back from any such document."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.io.dicom.codes import Code
from core.io.dicom.mark import read_mark, read_report_text
from core.io.files import decoding
from core.io.provenance import Mark

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.11"  # Basic Text SR Storage
_READABLE = frozenset({SOP_CLASS, "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.33"})
_DEEPEST, _MOST = 16, 2000  # levels and items of a content tree that is still a report


@dataclass(frozen=True)
class Heading:
    """A section of a report: its own title (PS3.16 CID 7001), and that of a text in it (CID 7002)."""

    section: Code
    text: Code


HEADINGS = {
    "finding": Heading(
        Code(value="59776-5", meaning="Findings", scheme="LN"), Code(value="121071", meaning="Finding", scheme="DCM")
    ),
    "impression": Heading(
        Code(value="19005-8", meaning="Impressions", scheme="LN"),
        Code(value="121073", meaning="Impression", scheme="DCM"),
    ),
}
_TITLE = re.compile(r"(?i)\b(finding|impression)s?\s*:\s*")


def split_sections(text: str) -> list[tuple[str, str]]:
    """``(heading, text)`` in order, heading ``finding`` or ``impression``; text without a heading counts as findings.

    Where the text says ``Findings:`` and ``Impression:``, the titles are taken out of it: they become codes.
    """
    titles = list(_TITLE.finditer(text))
    ends = [title.start() for title in titles] + [len(text)]
    before = text[: ends[0]].strip()
    sections = [("finding", before)] if before else []
    for title, end in zip(titles, ends[1:], strict=True):
        content = text[title.end() : end].strip()
        if content:
            sections.append((title[1].lower(), content))
    return sections


def read_report(path: Path) -> tuple[str, Mark | None]:
    """Return the text of a structured report, exact where MedWeave wrote it, and its mark; `UserError` otherwise."""
    with decoding(path, "DICOM"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom tells of values that a report in words does not have
        from pydicom import dcmread

        dataset = dcmread(path)
        text = text_of(dataset, path)
        exact = read_report_text(dataset, path)
        return text if exact is None else exact, read_mark(dataset, path)


def text_of(dataset: Dataset, path: Path) -> str:
    """Return the texts of a structured report, in order, each section behind its title and a colon.

    `UserError` that names the file: another kind of object, no text in it, or a content tree too deep or too large.
    """
    kind = str(dataset.get("SOPClassUID", ""))
    if kind not in _READABLE:
        raise UserError(f"{path}: is no structured report (SOP class {kind or 'not stated'}); give a report")
    lines = [text for _, text in zip(range(_MOST + 1), _texts(dataset, 0, path), strict=False)]
    if len(lines) > _MOST:
        raise UserError(f"{path}: holds more than {_MOST} items; it is no report in words")
    if not lines:
        raise UserError(f"{path}: holds no text; remove it from the manifest")
    return "\n".join(lines)


def _texts(item: Any, level: int, path: Path) -> Iterator[str]:
    if level > _DEEPEST:
        raise UserError(f"{path}: its content is nested more than {_DEEPEST} levels deep; export it again")
    for child in item.get("ContentSequence") or ():
        if child.get("ValueType") == "TEXT" and str(child.get("TextValue") or "").strip():
            yield _titled(item, str(child.TextValue), level)
        yield from _texts(child, level + 1, path)


def _titled(section: Any, text: str, level: int) -> str:
    """Return the text of a section behind its title; that of the document itself has none."""
    names = section.get("ConceptNameCodeSequence") or ()
    title = str(names[0].get("CodeMeaning") or "") if level and names else ""
    text = text.replace("\r\n", "\n")
    return f"{title}: {text}" if title else text
