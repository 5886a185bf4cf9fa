"""Split the text of a radiology report into its sections.

A heading is recognised where reports put it: at the start of a line with a colon, alone on a line (underlined or not),
or behind the end of a sentence with a colon, as in reports whose line breaks were lost. A word in a sentence is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

SectionName = Literal["findings", "impression", "indication", "history", "technique", "comparison"]
Titles = Mapping[SectionName, tuple[str, ...]]

_TITLES: Titles = {
    "findings": (
        *("findings", "finding", "imaging findings", "radiographic findings", "chest findings"),
        *("observations", "observation", "findings and impression", "findings/impression", "findings / impression"),
    ),
    "impression": (
        *("impression", "impressions", "conclusion", "conclusions", "summary", "opinion", "assessment"),
        *("final impression", "findings and impression", "findings/impression", "findings / impression"),
        *("impression and recommendation", "impression and recommendations", "impression/recommendation"),
    ),
    "indication": (
        *("indication", "indications", "clinical indication", "reason for exam", "reason for examination"),
        *("reason for this examination", "reason for study", "reason for the study"),
    ),
    "history": (
        *("history", "clinical history", "patient history", "medical history", "clinical information"),
        *("clinical data", "clinical details", "clinical background"),
    ),
    "technique": ("technique", "techniques", "protocol", "imaging technique"),
    "comparison": ("comparison", "comparisons", "comparison study", "comparison studies", "prior studies"),
}
# These headings end the section above them and are no part of it.
_OTHERS = (
    *("examination", "exam", "type of examination", "study", "procedure", "views", "number of views"),
    *("final report", "wet read", "preliminary report", "addendum", "recommendation", "recommendations"),
    *("notification", "notifications", "attestation", "dictated by", "signed by", "electronically signed by"),
)
_LEADING = (
    *("a", "an", "and", "any", "as", "by", "for", "from", "in", "into", "my", "no", "of", "on", "or", "our"),
    *("per", "see", "the", "their", "these", "this", "to", "under", "with"),
)
_SPACE = r"[^\S\n]"
_UNDERLINE = re.compile(rf"\A{_SPACE}*\n{_SPACE}*(?:[-=~*]{{3,}}|_{{5,}}){_SPACE}*(?=\n|\Z)")
_RULE = re.compile(rf"(?m)^{_SPACE}*(?:[-=~*]{{3,}}|_{{5,}}){_SPACE}*$")


@dataclass(frozen=True)
class Section:
    """A section. ``names`` is empty for text before the first heading or under an unknown one.

    It holds two names under FINDINGS AND IMPRESSION.
    """

    names: frozenset[str]
    text: str


def split_sections(report: str, titles: Titles | None = None) -> list[Section]:
    """Return the sections in the order of the report, each without its heading.

    ``titles`` adds headings that a hospital uses. Sections of one name may repeat. Joined, the sections are the whole
    report but its headings and lines of dashes.
    """
    extra = tuple(sorted((name, tuple(more)) for name, more in (titles or {}).items()))
    pattern, names = _headings(extra)
    headings = [match for match in pattern.finditer(report) if _is_heading(match, report)]
    ends = [match.start() for match in headings] + [len(report)]
    sections = [Section(frozenset(), _plain(report[: ends[0]]))]
    for match, end in zip(headings, ends[1:], strict=True):
        content = _UNDERLINE.sub("", report[match.end() : end])
        sections.append(Section(names[_key(match["title"])], _plain(content)))
    return [section for section in sections if section.text]


def join_sections(report: str, wanted: Sequence[SectionName], titles: Titles | None = None) -> str | None:
    """Return the text of the ``wanted`` sections in their order, each behind its title where several are wanted.

    Sections of one name are joined. ``None`` where the report has none of them with any text.
    """
    sections, used, texts = split_sections(report, titles), set[int](), list[str]()
    for name in wanted:
        indices = [i for i, section in enumerate(sections) if name in section.names and i not in used]
        used |= {*indices}
        text = "\n".join(sections[i].text for i in indices)
        if text:
            texts.append(f"{name.capitalize()}: {text}" if len(wanted) > 1 else text)
    return "\n".join(texts) or None


@lru_cache(maxsize=16)
def _headings(
    extra: Sequence[tuple[SectionName, tuple[str, ...]]],
) -> tuple[re.Pattern[str], dict[str, frozenset[str]]]:
    """Return the pattern of a heading, and the section names of each title."""
    names: dict[str, set[str]] = {_key(title): set() for title in _OTHERS}
    for name, title in _pairs([*_TITLES.items(), *extra]):
        names.setdefault(_key(title), set()).add(name)
    words = sorted(names, key=len, reverse=True)
    title = "|".join(re.escape(word).replace(r"\ ", rf"{_SPACE}+") for word in words)
    where = rf"(?P<line>^{_SPACE}*(?:[#*_]+{_SPACE}*)?)|(?<=\S){_SPACE}+"
    end = rf"[*_]*{_SPACE}*:[*_]*|[*_]*{_SPACE}*$|(?P<gap>{_SPACE}{{2,}})(?=\S)"
    bracket = rf"(?:{_SPACE}*\([^)\n]{{1,40}}\))?"
    pattern = re.compile(rf"(?im)(?:{where})(?P<title>{title}){bracket}(?P<end>{end})")
    return pattern, {key: frozenset(value) for key, value in names.items()}


def _pairs(titles: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[tuple[str, str]]:
    return ((name, title) for name, more in titles for title in more)


def _is_heading(match: re.Match[str], report: str) -> bool:
    title, at_line = match["title"], match["line"] is not None
    if ":" in match["end"] and not at_line:
        return title[0].isupper() and _ends_a_sentence(match, report)
    if ":" in match["end"]:
        # In lower case only where nothing runs on from the line above.
        return title[0].isupper() or not _line_above(match.start(), report)
    if match["gap"] is not None:
        return at_line and title.isupper()
    return at_line and title[0].isupper()


def _ends_a_sentence(match: re.Match[str], report: str) -> bool:
    """Return whether a sentence ends before the heading.

    Its full stop may be missing where the word before does not lead on, and what follows begins a new sentence.
    """
    if report[match.start() - 1] in ".!?:;)]":
        return True
    word = report[max(0, match.start() - 12) : match.start()].split()[-1].lower()
    behind = report[match.end() : match.end() + 3].lstrip()[:1]
    return word not in _LEADING and (behind.isupper() or behind.isdigit())


def _line_above(start: int, report: str) -> str:
    return report[report.rfind("\n", 0, max(0, start - 1)) + 1 : start].strip()


def _key(title: str) -> str:
    return " ".join(title.lower().split())


def _plain(text: str) -> str:
    return _RULE.sub("", text).strip()


def section_names(sections: Iterable[Section]) -> list[SectionName]:
    """Return the names that occur among the sections, each once, in the order of `SectionName`."""
    present = {name for section in sections for name in section.names}
    return [cast(SectionName, name) for name in _TITLES if name in present]
