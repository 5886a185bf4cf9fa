"""Are generated reports sound language? Known sentences, contradictions and repeated words (method 6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from core.evaluate.bootstrap import mean_interval
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet

_END = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[^\W_]+")

Extractor = Callable[[str], Mapping[str, int]]


def report_quality_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield shares of known sentences, of contradictions and of repeated words in real, reconstructed, generated texts.

    Texts are generated from an image, as reports are in use, or without a prompt where no image prompts them.
    """
    for name in test_set.run.outputs:
        if test_set.run.parts(name).data.kind != "tokens":
            continue
        known = known_sentences(test_set, name)
        sources = [source for source in test_set.run.prompt_sources(name) if source in test_set.grids]
        for source in sources or [None]:
            yield from _rows_of(test_set, name, source, known)


def known_sentences(test_set: TestSet, name: str) -> set[str]:
    """Return the sentences of all training texts, normalised (`sentences`)."""
    studies = test_set.cohort.whole
    return {sentence for index in studies.indices_with(name) for sentence in sentences(studies.text(name, index))}


def _rows_of(test_set: TestSet, name: str, source: str | None, known: set[str]) -> Iterator[MetricRow]:
    indices = test_set.comparable_indices(*(() if source is None else (source,)), name)
    if not indices:
        return
    prompts = [] if source is None else [source]
    title = f"{name} alone" if source is None else f"{source} to {name}"
    generated = test_set.generated([name], indices, prompts=prompts, couple=False, title=title)[name]
    ways = {
        "real": test_set.texts(name, [test_set.studies.batch(name, indices)]),
        "reconstructed": test_set.texts(name, test_set.reconstructed(name, indices)),
        "generated": test_set.texts(name, generated),
    }
    start = name if source is None else f"{name} from {source}"
    for way, texts in ways.items():
        measured = {
            "known sentences": [known_share(text, known) for text in texts],
            "contradictions": contradictory(test_set, texts, indices),
            "repeated words": [repeated_share(text) for text in texts],
        }
        for what, values in measured.items():
            if not np.isnan(np.array(values, dtype=np.float64)).all():
                value = mean_interval(values, test_set.patients(indices), seed=test_set.seed)
                yield metric_row(f"{start}: {what}, {way}", value, key=f"{what}/{way}/{name}+{source or ''}")


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in lower case, with single spaces and without marks at their ends."""
    parts = (re.sub(r"\s+", " ", part).strip(" .!?").lower() for part in _END.split(text))
    return [part for part in parts if part]


def known_share(text: str, known: set[str]) -> float:
    """Return the share of a text's sentences that are among the known ones; 0 for a text without any sentence."""
    each = sentences(text)
    return sum(sentence in known for sentence in each) / len(each) if each else 0.0


def repeated_share(text: str) -> float:
    """Return the share of words that repeat the word before them, as in "right right right"; 0 for a single word."""
    words = _WORD.findall(text.lower())
    repeated = sum(first == second for first, second in pairwise(words))
    return repeated / (len(words) - 1) if len(words) > 1 else 0.0


def contradictory(test_set: TestSet, texts: Sequence[str], indices: Sequence[int]) -> list[float]:
    """Return for every text 1 if two of its sentences contradict each other, else 0; NaN where nothing reads it."""
    cohort, datasets = test_set.cohort, [test_set.studies.records[index].dataset for index in indices]
    return [
        contradicts_itself(
            text, [extract for of in (cohort.findings_of, cohort.details_of) if (extract := of.get(name))]
        )
        for text, name in zip(texts, datasets, strict=True)
    ]


def contradicts_itself(text: str, extractors: Sequence[Extractor]) -> float:
    """Return whether one sentence states what another denies: a finding, or its side or grade; NaN without extractors.

    Every sentence is read alone. A detail counts as denied where it is stated otherwise for the same finding.
    """
    if not extractors:
        return float("nan")
    stated: dict[str, set[int]] = {}
    for sentence in sentences(text):
        for extract in extractors:
            for name, value in extract(f"{sentence}.").items():
                stated.setdefault(name, set()).add(int(value))
    return float(any(len(values) > 1 for values in stated.values()))
