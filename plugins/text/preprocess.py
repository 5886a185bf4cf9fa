"""Tokenize reports, and cut those that are too long after a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from core.api import BpeTokenizerConfig, Geometry, Sample


class ReportTokenizerConfig(BpeTokenizerConfig):
    """Configure a byte-pair tokenizer that cuts a text longer than ``length`` after a sentence.

    The cut is after a sentence or a line where it ends in the second half of what fits, else between two characters:
    half a sentence may state the contrary of the whole (``No`` before ``pneumothorax``). ``meta["cut_tokens"]`` counts
    the tokens that were cut.
    """

    cut: Literal["sentence", "character"] = "sentence"

    def build(self) -> Any:
        """Build the preprocessor. `UserError` for a file that is missing, not byte-level, or too large."""
        tokenizer = super().build()
        return tokenizer if self.cut == "character" else SentenceTokenizer(tokenizer)


class SentenceTokenizer:
    """Tokenize texts so that a text that is cut ends with a sentence."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.config, self.tolerance = tokenizer.config, tokenizer.tolerance

    def apply(self, sample: Sample) -> Sample:
        """Return token ids, int64 ``length``, without padding. `TypeError` for a sample that is no text."""
        tokens = self._tokenizer.apply(sample)
        if not tokens.meta.get("cut_tokens") or tokens is sample:
            return tokens
        first, *others = self._tokenizer.split(sample)
        # Every part begins and ends with a token that the text does not have.
        return replace(first, meta={**first.meta, "cut_tokens": sum(len(part.data) - 2 for part in others)})

    def split(self, sample: Sample) -> list[Sample]:
        """Return the whole of a long text as samples that each fit."""
        return self._tokenizer.split(sample)

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """Return the text between begin and end. ``like`` is not used."""
        return self._tokenizer.invert(sample, like)

    def to_json(self) -> str:
        """Return the tokenizer as the text of a ``tokenizer.json``."""
        return self._tokenizer.to_json()
