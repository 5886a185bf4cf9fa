"""All checks of one modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from core.data.audit.duplicates import Copies, Repeats
from core.data.audit.file_facts import Facts
from core.data.audit.files import Readable, Sizes, Storage
from core.data.audit.findings import Check, Finding, Names, name_of
from core.data.audit.geometry import Places
from core.data.audit.values import Reports, Values
from core.types import DataSpec


def examine(modality: str, spec: DataSpec, files: Iterable[Facts]) -> Iterator[Finding]:
    """What the files of a modality have to say, asked one by one.

    Memory grows by the name of a file and about 150 bytes.
    """
    names = Names()
    checks: tuple[Check, ...] = (
        *(Readable(modality), Storage(modality), Sizes(modality), Places(modality, names), Values(modality, names)),
        *(Copies(modality, names, spec.units), Reports(modality), Repeats(modality, names)),
    )
    for facts in files:
        names.append(name_of(facts))
        for check in checks:
            check.add(facts)
    for check in checks:
        yield from check.findings()
