"""Tokens of reports: one that is too long ends with a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from core.api import BpeTokenizerConfig, Geometry, Sample


class ReportTokenizerConfig(BpeTokenizerConfig):
    """`BpeTokenizerConfig` that cuts a text longer than ``length`` behind a sentence, or between two characters.

    Behind a sentence or a line, where one ends in the second half of what fits; else between two characters. Half a
    sentence may say the contrary of the whole (``No`` before ``pneumothorax``). ``meta["cut_tokens"]`` counts what is
    cut.
    """

    cut: Literal["sentence", "character"] = "sentence"

    def build(self) -> Any:
        """Make the preprocessor. `UserError` for a file that is missing, not byte-level, or too large."""
        tokenizer = super().build()
        return tokenizer if self.cut == "character" else SentenceTokenizer(tokenizer)


class SentenceTokenizer:
    """A tokenizer whose cut texts end with a sentence."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.config, self.tolerance = tokenizer.config, tokenizer.tolerance

    def apply(self, sample: Sample) -> Sample:
        """Ids, int64 ``length``, without padding. `TypeError` for what is no text."""
        found = self._tokenizer.apply(sample)
        if not found.meta.get("cut_tokens") or found is sample:
            return found
        first, *others = self._tokenizer.split(sample)
        # Every part has a begin and an end of its own.
        return replace(first, meta={**first.meta, "cut_tokens": sum(len(part.data) - 2 for part in others)})

    def split(self, sample: Sample) -> list[Sample]:
        """The whole of a long text as samples that each fit."""
        return self._tokenizer.split(sample)

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """The text between begin and end. ``like`` is not used."""
        return self._tokenizer.invert(sample, like)

    def to_json(self) -> str:
        """The tokenizer as the text of a ``tokenizer.json``."""
        return self._tokenizer.to_json()
