"""Read findings back from reports of the grammar, by rules."""

from __future__ import annotations

import re
from dataclasses import dataclass

from plugins.phantom.anatomy.findings import FINDINGS, GRADES
from plugins.phantom.report.phrases import ADVERBS, CLEAR, CUES, GRADE_WORDS, NORMAL, PARENCHYMA

_NEGATIVE = re.compile(r"\b(no|not|without|normal|sharp)\b")
_DOUBTFUL = re.compile(r"\b(possible|probable|suspected|questionable)\b")
_GRADES = {
    grade: re.compile(rf"(?<![\w-])({'|'.join((*GRADE_WORDS[grade], *ADVERBS[grade]))})(?![\w-])")
    for grade in GRADE_WORDS
}
_ON_BOTH_SIDES = "edema"  # although no report states its side
_ZONES = {"upper": "upper", "mid": "middle", "lower": "lower"}


@dataclass(frozen=True)
class Statement:
    """Hold what a report states on a finding. Presence and doubt are separate: a suspected finding is present."""

    present: bool
    doubtful: bool = False
    side: str = "none"
    grade: str | None = None
    zone: str | None = None


def read_report(report: str) -> dict[str, Statement]:
    """Return every finding that the report mentions. Of several statements presence wins, then the first."""
    statements: dict[str, Statement] = {}
    for sentence in re.split(r"[.\n]", report.lower()):
        for name, statement in _read_sentence(sentence.replace("impression:", "").replace("findings:", "").strip()):
            if name not in statements or (statement.present and not statements[name].present):
                statements[name] = statement
    return statements


def read_details(report: str) -> dict[str, int]:
    """Return sides of present findings and the grades that they reach, where stated, as ``FINDING/DETAIL``."""
    details = {}
    for name, statement in read_report(report).items():
        if statement.present and statement.side != "none" and name != _ON_BOTH_SIDES:
            details |= {f"{name}/{side}": int(statement.side in (side, "bilateral")) for side in ("left", "right")}
        if statement.present and statement.grade is not None:
            reached = GRADES.index(statement.grade)
            details |= {f"{name}/{grade}": int(GRADES.index(grade) <= reached) for grade in GRADES[1:]}
    return details


def _read_sentence(sentence: str) -> list[tuple[str, Statement]]:
    if sentence in NORMAL:
        return [(name, Statement(False)) for name in FINDINGS]
    if sentence in CLEAR:
        return [(name, Statement(False)) for name in PARENCHYMA]
    named = [name for name, cues in CUES.items() if any(re.search(rf"\b{cue}\b", sentence) for cue in cues)]
    if _NEGATIVE.search(sentence):
        return [(name, Statement(False)) for name in named]
    return [(name, _positive(sentence, name)) for name in named]


def _positive(sentence: str, name: str) -> Statement:
    grade = next((grade for grade, words in _GRADES.items() if words.search(sentence)), None)
    zone = next((zone for word, zone in _ZONES.items() if re.search(rf"\b{word}\b", sentence)), None)
    side = next((side for side in ("left", "right") if re.search(rf"\b{side}\b", sentence)), "none")
    if re.search(r"\b(bilateral|both)\b", sentence) or name == _ON_BOTH_SIDES:
        side = "bilateral"
    has_zone = name in ("consolidation", "lung_lesion")
    return Statement(True, bool(_DOUBTFUL.search(sentence)), side, grade, zone if has_zone else None)
