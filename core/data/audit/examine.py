"""All checks of one modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from core.data.audit.duplicates import DuplicateFiles, RepeatedTexts
from core.data.audit.file_facts import Facts
from core.data.audit.files import Generated, Readable, Sizes, Storage
from core.data.audit.findings import Check, Finding, NameIndex, file_name
from core.data.audit.geometry import SpacingAndOrientation
from core.data.audit.values import Reports, Values
from core.types import DataSpec


def examine(modality: str, spec: DataSpec, files: Iterable[Facts], *, computed: bool = False) -> Iterator[Finding]:
    """Yield the findings of all checks of the files of a modality, which are taken one by one.

    ``computed``: whether the data set is made by a program and not collected. Memory grows by the name of a file and
    about 150 bytes.
    """
    names = NameIndex()
    checks: tuple[Check, ...] = (
        Readable(modality),
        Generated(modality, computed=computed),
        Storage(modality),
        Sizes(modality),
        SpacingAndOrientation(modality, names),
        Values(modality, names),
        DuplicateFiles(modality, names, spec.units),
        Reports(modality),
        RepeatedTexts(modality, names),
    )
    for facts in files:
        names.append(file_name(facts))
        for check in checks:
            check.add(facts)
    for check in checks:
        yield from check.findings()
