"""Checks of files: whether they can be read, how large they are and how they are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from core.data.audit.file_facts import Facts
from core.data.audit.findings import EXAMPLES, CountWithExamples, Finding, file_name, share

_TINY = 16  # pixels of a side
_MANY = 20  # files, so that a rule of the whole can be seen


class Readable:
    """Whether files are there and can be read, and the warnings of their reader."""

    def __init__(self, modality: str) -> None:
        self.modality, self.num = modality, 0
        self.missing, self.broken, self.warned = CountWithExamples(), CountWithExamples(), CountWithExamples()

    def add(self, facts: Facts) -> None:
        """Count it."""
        self.num += 1
        if facts.get("missing"):
            self.missing.add(facts)
        elif "fault" in facts:
            self.broken.add(facts, facts["fault"])
        elif "said" in facts:
            self.warned.add(facts, facts["said"])

    def findings(self) -> Iterator[Finding]:
        """Yield missing files, unreadable files, warnings."""
        yield self.missing.finding("missing files", self.modality, self.num, "are named and not there", "error")
        yield self.broken.finding(
            "unreadable files", self.modality, self.num, "cannot be read and are left out", "error"
        )
        yield self.warned.finding("warnings of the reader", self.modality, self.num, "are read with a warning")


class Generated:
    """Files that say they were generated, in a data set that is not computed: a model would learn from a model."""

    def __init__(self, modality: str, *, computed: bool) -> None:
        self.modality, self.num, self.computed = modality, 0, computed
        self.generated = CountWithExamples()

    def add(self, facts: Facts) -> None:
        """Count it."""
        self.num += 1
        if facts.get("synthetic") and not self.computed:
            self.generated.add(facts)

    def findings(self) -> Iterator[Finding]:
        """Yield generated files."""
        message = "say that they were generated: training on them is learning from a model, not from patients"
        yield self.generated.finding("generated files", self.modality, self.num, message, "error")


class Sizes:
    """Sides in pixels. Where every picture is square, somebody may have squeezed it."""

    def __init__(self, modality: str) -> None:
        self.modality, self.num = modality, 0
        self.shapes: Counter[tuple[int, ...]] = Counter()
        self.tiny, self.exports = CountWithExamples(), 0

    def add(self, facts: Facts) -> None:
        """Count it."""
        if not facts.get("shape"):
            return
        self.num += 1
        self.shapes[tuple(facts["shape"])] += 1
        self.exports += _is_export(facts)
        if min(facts["shape"]) < _TINY:
            self.tiny.add(facts, " x ".join(map(str, facts["shape"])))

    def findings(self) -> Iterator[Finding]:
        """Yield sizes, sides that are too short, and squares."""
        if not self.num:
            return
        usual = ", ".join(f"{_size(shape)}: {share(num, self.num)}" for shape, num in self.shapes.most_common(3))
        oblong = sum(num for shape, num in self.shapes.items() if len(shape) == 2 and shape[0] != shape[1])
        yield Finding(
            check="sizes",
            where=self.modality,
            message=f"{len(self.shapes):,} different, {share(oblong, self.num)} not square; {usual}",
            count=len(self.shapes),
            num=self.num,
            numbers={_size(shape): num for shape, num in self.shapes.most_common(20)},
        )
        yield self.tiny.finding("tiny sides", self.modality, self.num, f"have a side below {_TINY} pixels")
        squeezed = not oblong and self.exports == self.num >= _MANY
        yield Finding(
            check="all square",
            where=self.modality,
            verdict="warning" if squeezed else "ok",
            message="every file is an exported square: squeezed or cut from another shape, perhaps; compare the"
            " originals",
            count=self.num if squeezed else 0,
            num=self.num,
        )


class Storage:
    """Formats, colour models and depths, and units that no file states."""

    def __init__(self, modality: str) -> None:
        self.modality, self.num = modality, 0
        self.kinds: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.assumed = CountWithExamples()

    def add(self, facts: Facts) -> None:
        """Count it."""
        if "stored" not in facts:
            return
        self.num += 1
        self.kinds[facts["stored"]] += 1
        self.first.setdefault(facts["stored"], file_name(facts))
        if facts["assumed"]:
            self.assumed.add(facts)

    def findings(self) -> Iterator[Finding]:
        """Yield the mix, and assumed units."""
        if not self.num:
            return
        message = ", ".join(f"{kind}: {share(num, self.num)}" for kind, num in self.kinds.most_common(6))
        yield Finding(
            check="stored as",
            where=self.modality,
            verdict="warning" if len(self.kinds) > 1 else "ok",
            message=message,
            count=self.num,
            num=self.num,
            examples=tuple(self.first[kind] for kind, _ in self.kinds.most_common()[1 : 1 + EXAMPLES]),
            numbers=dict(self.kinds),
        )
        yield self.assumed.finding(
            "units assumed",
            self.modality,
            self.num,
            "are pictures without units: those in the reader's settings are a guess, so no number can be compared",
        )


def _is_export(facts: Facts) -> bool:
    return str(facts.get("stored", "")).partition(" ")[0] in ("PNG", "JPEG", "TIFF")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
