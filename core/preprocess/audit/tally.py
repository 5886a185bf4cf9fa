"""How the checks of an audit count: each is told of the files of one modality one by one."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Protocol

from core.preprocess.audit.facts import Facts
from core.preprocess.audit.findings import EXAMPLES, Finding, Verdict, share


class Check(Protocol):
    """One question."""

    def add(self, facts: Facts) -> None:
        """Take one file into account."""
        ...

    def findings(self) -> Iterator[Finding]:
        """The answer."""
        ...


class Some:
    """A count with some examples; ``add`` once per file."""

    def __init__(self) -> None:
        self.num, self.examples = 0, list[str]()

    def add(self, facts: Facts, said: str = "") -> None:
        """Count one more file."""
        self.num += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(name_of(facts) + (f" ({said})" if said else ""))

    def finding(self, check: str, where: str, num: int, told: str, verdict: Verdict = "warning") -> Finding:
        """``told`` after the share; ``ok`` where nothing was counted."""
        return Finding(
            check=check,
            where=where,
            verdict=verdict if self.num else "ok",
            told=f"{share(self.num, num)} {told}",
            count=self.num,
            num=num,
            examples=tuple(self.examples),
        )


class Names:
    """Strings by number, end to end: a list of so many would cost several times as much.

    All checks of a modality share one; ``last`` is the number of the file that they are told of.
    """

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("Q")

    def append(self, name: str) -> None:
        """One more."""
        self._bytes += name.encode(errors="surrogatepass")
        self._ends.append(len(self._bytes))

    @property
    def last(self) -> int:
        """The number of the string that was appended last."""
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> str:
        start = self._ends[place - 1] if place else 0
        return self._bytes[start : self._ends[place]].decode(errors="surrogatepass")


def name_of(facts: Facts) -> str:
    """The file, or the study whose table holds the text."""
    return str(facts["file"] or f"study {facts['study']}")
