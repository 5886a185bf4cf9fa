"""All checks of one modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from core.preprocess.audit.copies import Copies, Repeats
from core.preprocess.audit.facts import Facts
from core.preprocess.audit.findings import Finding
from core.preprocess.audit.form import Readable, Sizes, Storage
from core.preprocess.audit.places import Places
from core.preprocess.audit.tally import Check, Names, name_of
from core.preprocess.audit.values import Reports, Values
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
