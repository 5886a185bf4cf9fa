"""Write a report of findings, with varied wording, negation, doubt, side and severity."""

from __future__ import annotations

import numpy as np

from plugins.phantom.anatomy.findings import FINDINGS, Finding, lesion_diameter_mm
from plugins.phantom.report.phrases import (
    ABSENT,
    ABSENT_PAIRS,
    ADVERBS,
    CLEAR,
    GRADES_OF,
    NORMAL,
    PARENCHYMA,
    PRESENT,
    UNCERTAIN,
)

_DOUBT = {"mild": 0.25, "moderate": 0.08, "severe": 0.0}
_ENOUGH = 150  # characters after which no further absent finding is mentioned


def write_report(findings: tuple[Finding, ...], rng: np.random.Generator) -> str:
    """Return a report that states every finding with its side and grade, and some absent findings."""
    sentences = [_present(findings[index], rng) for index in rng.permutation(len(findings))]
    absent = [name for name in FINDINGS if name not in {finding.name for finding in findings}]
    if not findings and rng.random() < 0.7:
        sentences.append(_choose(NORMAL, rng))
    sentences += _negations(absent, sum(map(len, sentences)), rng)
    if findings and rng.random() < 0.25:
        # Some radiologists state absent findings first.
        sentences = sentences[len(findings) :] + sentences[: len(findings)]
    body = " ".join(_sentence(sentence) for sentence in sentences)
    style = rng.random()
    if style < 0.3:
        return f"Findings: {body}"
    if style < 0.5:
        return f"{body} Impression: {_impression(findings, rng)}"
    return body


def _present(finding: Finding, rng: np.random.Generator) -> str:
    phrase = _fill(_choose(PRESENT[finding.name], rng), finding, rng)
    starts_a_clause = phrase.startswith(("there ", "the "))
    if not starts_a_clause and rng.random() < _DOUBT[finding.grade]:
        return _choose(UNCERTAIN, rng).format(phrase=phrase)
    return phrase


def _fill(template: str, finding: Finding, rng: np.random.Generator) -> str:
    both = finding.side == "bilateral"
    side = "bilateral" if both else finding.side
    if both and "the {side}" in template:
        template, side = template.replace("the {side}", "{side}"), "both"
    return template.format(
        grade=_choose(GRADES_OF[finding.name][finding.grade], rng),
        gradely=_choose(ADVERBS[finding.grade], rng),
        side=side,
        zone={"middle": "mid"}.get(finding.zone or "", finding.zone),
        s="s" if both else "",
        ies="ies" if both else "y",
        node="mass" if lesion_diameter_mm(finding) >= 30 else "nodule",
        size=5 * round(lesion_diameter_mm(finding) / 5),
    )


def _negations(absent: list[str], length: int, rng: np.random.Generator) -> list[str]:
    """Return a random choice of sentences on absent findings, fewer when the report is long already."""
    sentences: list[str] = []
    remaining = list(absent)
    if set(PARENCHYMA) <= set(remaining) and rng.random() < 0.45:
        sentences.append(_choose(CLEAR, rng))
        remaining = [name for name in remaining if name not in PARENCHYMA]
    for pair, phrases in ABSENT_PAIRS.items():
        if set(pair) <= set(remaining) and rng.random() < 0.5:
            sentences.append(_choose(phrases, rng))
            remaining = [name for name in remaining if name not in pair]
    wanted = int(rng.integers(1, 4))
    sentences += [_choose(ABSENT[remaining[index]], rng) for index in rng.permutation(len(remaining))[:wanted]]
    chosen: list[str] = []
    for index in rng.permutation(len(sentences)):
        if length <= _ENOUGH:
            chosen.append(sentences[index])
            length += len(sentences[index])
    return chosen


def _impression(findings: tuple[Finding, ...], rng: np.random.Generator) -> str:
    if not findings:
        return _sentence(_choose(NORMAL, rng))
    worst = max(findings, key=lambda finding: finding.severity)
    return _sentence(_fill(PRESENT[worst.name][0], worst, rng))


def _sentence(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:] + "."


def _choose(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
