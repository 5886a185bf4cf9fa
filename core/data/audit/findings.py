"""The findings of an audit, as a table for people and as JSON for programs; and how its checks count files."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from core.cli.text import columns
from core.data.audit.file_facts import Facts

Verdict = Literal["ok", "warning", "error"]
SCHEMA = 2  # of audit.json; in schema 1 ``message`` was ``told``
EXAMPLES = 5  # paths that a finding names
_NAMED = 6  # modalities or pairs that a row names
_ORDER: Sequence[Verdict] = ("error", "warning", "ok")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row. ``count`` of ``num`` (files, texts, studies or patients) are concerned; ``examples`` are some of them.

    ``where``: the modality or the pair, nothing for the whole data set. ``message`` puts it in words, with its remedy.
    """

    check: str
    where: str = ""
    verdict: Verdict = "ok"
    message: str
    count: int = 0
    num: int = 0
    examples: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)


def worst(findings: Iterable[Finding]) -> Verdict:
    """Return the gravest verdict, ``ok`` where there is none."""
    verdicts = {finding.verdict for finding in findings}
    return next(verdict for verdict in _ORDER if verdict in verdicts or verdict == "ok")


def table(findings: Sequence[Finding]) -> str:
    """Return errors first, then warnings, then what there is; the last line names the checks without a finding."""
    shown = [finding for finding in findings if finding.count or finding.verdict != "ok"]
    rows = [row for verdict in _ORDER for row in _rows([finding for finding in shown if finding.verdict == verdict])]
    quiet = dict.fromkeys(finding.check for finding in findings if finding not in shown)
    quiet = [check for check in quiet if not any(finding.check == check for finding in shown)]
    if quiet:
        rows.append(("ok", "nothing to report", ", ".join(quiet)))
    return "\n".join(columns(rows)) if rows else ""


def as_json(findings: Sequence[Finding], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``audit.json``; ``about`` says what was audited."""
    rows = [asdict(finding) for finding in findings]
    return {"schema": SCHEMA, "verdict": worst(findings), **about, "findings": rows}


def share(count: int, num: int) -> str:
    """Return such as ``12 of 480 (3 %)``."""
    percent = 100 * count / num if num else 0.0
    return f"{count:,} of {num:,} ({_percent(percent)} %)"


class Check(Protocol):
    """One question about the files of a modality, which it sees one by one."""

    def add(self, facts: Facts) -> None:
        """Take one file into account."""
        ...

    def findings(self) -> Iterator[Finding]:
        """Yield the answer."""
        ...


class CountWithExamples:
    """A count with some examples; ``add`` once per file."""

    def __init__(self) -> None:
        self.num, self.examples = 0, list[str]()

    def add(self, facts: Facts, detail: str = "") -> None:
        """Count one more file."""
        self.num += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(file_name(facts) + (f" ({detail})" if detail else ""))

    def finding(self, check: str, where: str, num: int, message: str, verdict: Verdict = "warning") -> Finding:
        """Return ``message`` behind the share; ``ok`` where nothing was counted."""
        return Finding(
            check=check,
            where=where,
            verdict=verdict if self.num else "ok",
            message=f"{share(self.num, num)} {message}",
            count=self.num,
            num=num,
            examples=tuple(self.examples),
        )


class NameIndex:
    """Strings by number, end to end: a list of so many would cost several times as much memory.

    All checks of a modality share one; ``last`` is the number of the file that they see now.
    """

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("Q")

    def append(self, name: str) -> None:
        """Add one more."""
        self._bytes += name.encode(errors="surrogatepass")
        self._ends.append(len(self._bytes))

    @property
    def last(self) -> int:
        """Return the number of the string that was appended last."""
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        start = self._ends[number - 1] if number else 0
        return self._bytes[start : self._ends[number]].decode(errors="surrogatepass")


def file_name(facts: Facts) -> str:
    """Return the name of the file, or of the study whose table holds the text."""
    return str(facts["file"] or f"study {facts['study']}")


def _rows(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """Return a row for each finding; one for all that say the same of several modalities or pairs."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        where.setdefault((finding.verdict, finding.check, _in_words(finding)), []).append(finding.where)
    return [(verdict, check, _named(names) + message) for (verdict, check, message), names in where.items()]


def _named(names: Sequence[str]) -> str:
    more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{'; '.join(names[:_NAMED])}{more}: " if any(names) else ""


def _in_words(finding: Finding) -> str:
    example = f"; e.g. {finding.examples[0]}" if finding.examples and finding.verdict != "ok" else ""
    return finding.message + example


def _percent(value: float) -> str:
    if value == 0 or value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.1g}"
