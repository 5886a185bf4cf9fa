"""The `Mark` inside a DICOM instance: JSON in a private block, which every conforming system carries along unread.

PS3.5 7.8.1: element (0099,0010) reserves the block for the creator ``MEDWEAVE``, (0099,1001) holds the text.
(0099,1002) holds a report as it stands, in quotes: DICOM lets white space at the ends of a text come and go.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.io.provenance import Mark
from core.types import Provenance, Sample

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

GROUP, CREATOR, ELEMENT, TEXT = 0x0099, "MEDWEAVE", 0x01, 0x02
_SHARED_KEYS = frozenset({"projection", "slice", "dtype", "bits", "view", "window", "spacing"})


def write_mark(dataset: Dataset, mark: Mark) -> None:
    """Write the mark into an instance."""
    block = dataset.private_block(GROUP, CREATOR, create=True)
    block.add_new(ELEMENT, "UT", mark.model_dump_json(exclude_none=True))


def read_mark(dataset: Dataset, path: Path) -> Mark | None:
    """Return the mark of an instance that MedWeave wrote, else ``None``; `UserError` where it is damaged."""
    try:
        block = dataset.private_block(GROUP, CREATOR)
    except KeyError:
        return None
    if ELEMENT not in block:
        raise UserError(f"{path}: its MedWeave mark is damaged (no text in it); generate or copy the file again")
    return Mark.parse(str(block[ELEMENT].value), path)


def write_report_text(dataset: Dataset, text: str) -> None:
    """Write the text of a report into an instance, as a JSON string."""
    block = dataset.private_block(GROUP, CREATOR, create=True)
    block.add_new(TEXT, "UT", json.dumps(text, ensure_ascii=False))


def read_report_text(dataset: Dataset, path: Path) -> str | None:
    """Return the text that `write_report_text` wrote, else ``None``; `UserError` where it is damaged."""
    try:
        block = dataset.private_block(GROUP, CREATOR)
        return str(json.loads(block[TEXT].value))
    except KeyError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: its MedWeave text is damaged ({error}); generate or copy the file again") from error


def new_mark(
    sample: Sample, provenance: Provenance, units: str, value_range: tuple[float, float] | None = None
) -> Mark:
    """Return `Mark.of`, with those entries of `Geometry.source_header` alone that describe numbers, not a patient."""
    mark = Mark.of(sample, provenance, units, value_range)
    return mark.model_copy(update={"stored": {key: value for key, value in mark.stored.items() if key in _SHARED_KEYS}})
