"""What an audit says: findings with a verdict, as a table for people and as JSON for programs.

How the checks of an audit count: each is told of the files of one modality one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from core.cli.text import columns
from core.data.audit.file_facts import Facts

Verdict = Literal["ok", "warning", "error"]
SCHEMA = 1
EXAMPLES = 5  # paths that a finding names
_NAMED = 6  # modalities or pairs that a row names
_ORDER: Sequence[Verdict] = ("error", "warning", "ok")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row. ``count`` of ``num`` (files, texts, studies or patients) are concerned; ``examples`` are some of them.

    ``where``: the modality or the pair, nothing for the whole. ``told`` says it in words, with its remedy.
    """

    check: str
    where: str = ""
    verdict: Verdict = "ok"
    told: str
    count: int = 0
    num: int = 0
    examples: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)


def worst(findings: Iterable[Finding]) -> Verdict:
    """The gravest verdict, ``ok`` where there is none."""
    found = {one.verdict for one in findings}
    return next(verdict for verdict in _ORDER if verdict in found or verdict == "ok")


def table(findings: Sequence[Finding]) -> str:
    """Errors first, then warnings, then what there is; checks that found nothing are named in the last line."""
    shown = [one for one in findings if one.count or one.verdict != "ok"]
    rows = [row for verdict in _ORDER for row in _rows([one for one in shown if one.verdict == verdict])]
    quiet = dict.fromkeys(one.check for one in findings if one not in shown)
    quiet = [check for check in quiet if not any(one.check == check for one in shown)]
    if quiet:
        rows.append(("ok", "nothing found of", ", ".join(quiet)))
    return "\n".join(columns(rows)) if rows else ""


def as_json(findings: Sequence[Finding], about: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``audit.json``; ``about`` says what was audited."""
    rows = [asdict(one) for one in findings]
    return {"schema": SCHEMA, "verdict": worst(findings), **about, "findings": rows}


def share(count: int, num: int) -> str:
    """``12 of 480 (3 %)``"""
    percent = 100 * count / num if num else 0.0
    return f"{count:,} of {num:,} ({_percent(percent)} %)"


def _percent(value: float) -> str:
    if value == 0 or value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.1g}"


def _rows(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """A row for each finding; one for all that say the same of several modalities or pairs."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for one in findings:
        where.setdefault((one.verdict, one.check, _in_words(one)), []).append(one.where)
    return [(verdict, check, _named(names) + told) for (verdict, check, told), names in where.items()]


def _named(names: Sequence[str]) -> str:
    more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{'; '.join(names[:_NAMED])}{more}: " if any(names) else ""


def _in_words(finding: Finding) -> str:
    return finding.told + (f"; e.g. {finding.examples[0]}" if finding.examples and finding.verdict != "ok" else "")


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
