"""Checks of contents: constant images, strange values, texts that are not whole."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np

from core.data.audit.file_facts import Facts
from core.data.audit.findings import EXAMPLES, CountWithExamples, Finding, NameIndex, share

_MOST = 0.5  # of the values of a file
_FAINT = 0.1  # of the usual range of values
_WORDS = 3


class Values:
    """Constant, not finite, beyond the range, and far fainter than the others."""

    def __init__(self, modality: str, names: NameIndex) -> None:
        self.modality, self.num, self.names = modality, 0, names
        self.constant, self.broken, self.outside = CountWithExamples(), CountWithExamples(), CountWithExamples()
        self.spans, self.numbers = array("d"), array("L")

    def add(self, facts: Facts) -> None:
        """Count it."""
        if "low" not in facts:
            return
        self.num += 1
        low, high = facts["low"], facts["high"]
        if low is None:
            self.broken.add(facts)
            return
        if low == high:
            self.constant.add(facts, f"{low:g}")
        elif facts.get("outside", 0) > _MOST:
            self.outside.add(facts, f"{low:g} to {high:g}")
        self.spans.append(high - low)
        self.numbers.append(self.names.last)

    def findings(self) -> Iterator[Finding]:
        """Yield a row for each check."""
        if not self.num:
            return
        where, num = self.modality, self.num
        yield self.broken.finding("NaN or infinite", where, num, "hold numbers that are none", "error")
        yield self.constant.finding("constant images", where, num, "hold one value everywhere")
        yield self.outside.finding("out of range", where, num, "lie mostly beyond the range of their units")
        spans = np.array(self.spans)
        faint = np.flatnonzero((spans > 0) & (spans < _FAINT * np.median(spans))) if len(spans) else np.array([], int)
        yield Finding(
            check="faint",
            where=where,
            verdict="warning" if len(faint) else "ok",
            message=f"{share(len(faint), num)} use less than a tenth of the usual range of values",
            count=len(faint),
            num=num,
            examples=tuple(self.names[self.numbers[index]] for index in faint[:EXAMPLES]),
        )


class Reports:
    """Texts: cut off, too short, de-identified, longer than the networks read."""

    def __init__(self, modality: str) -> None:
        self.modality, self.num = modality, 0
        self.open, self.brief, self.empty, self.masked, self.cut = (
            CountWithExamples(),
            CountWithExamples(),
            CountWithExamples(),
            CountWithExamples(),
            CountWithExamples(),
        )
        self.hashes, self.lengths = array("Q"), array("L")

    def add(self, facts: Facts) -> None:
        """Count it."""
        if "words" not in facts:
            return
        self.num += 1
        self.hashes.append(facts["pixels"])
        self.lengths.append(facts["words"])
        if not facts["words"]:
            self.empty.add(facts)
        elif facts["words"] < _WORDS:
            self.brief.add(facts)
        elif not facts["ends"]:
            self.open.add(facts)
        if facts["masked"]:
            self.masked.add(facts, f"{facts['masked']} x")
        if facts.get("cut"):
            self.cut.add(facts, f"{facts['cut']} tokens")

    def findings(self) -> Iterator[Finding]:
        """Yield a row for each check."""
        if not self.num:
            return
        where, num = self.modality, self.num
        different, middle = len(np.unique(np.array(self.hashes, dtype=np.uint64))), float(np.median(self.lengths))
        message = f"{share(different, num)} are different; median of {middle:.0f} words"
        yield Finding(check="texts", where=where, message=message, count=different, num=num)
        yield self.empty.finding("empty texts", where, num, "hold no word", "error")
        yield self.brief.finding("short texts", where, num, f"have fewer than {_WORDS} words")
        yield self.open.finding("texts cut off", where, num, "end in the middle of a sentence, or without a full stop")
        masked = "hold XXXX, ___ or [**...**] in place of names: a model will learn to write it"
        yield self.masked.finding("de-identified text", where, num, masked)
        yield self.cut.finding("texts too long", where, num, "are longer than the networks of this preset read")
