"""Text to tokens of a trained byte-level BPE and back: as exact as bytes, and several times shorter."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field

from core.contract.modality import PartConfig
from core.preprocess.grid import CANONICAL, is_canonical
from core.preprocess.tokenizer_file import SPECIALS, encodable, open_tokenizer, text_of
from core.preprocess.tokens import BEGIN, END, VOCABULARY
from core.types import DataSpec, Geometry, Sample

Offsets = list[tuple[int, int]]


class BpeTokenizerConfig(PartConfig):
    """Token ids of a byte-level BPE: 0 padding, 1 begin, 2 end, then id ``i`` of the file is ``i + 3``.

    ``path`` is a ``tokenizer.json``, by `train_tokenizer` or another byte-level one (GPT-2's): a file, or
    ``package.module:file`` for one that lies in an installed package. ``vocabulary`` is the number of ids that the
    networks were made for, at least 3 more than the file holds: a tokenizer trained with the same ``vocabulary``
    takes the place of another by its path alone.

    ``length`` counts the begin and end tokens. A longer text is cut between two characters, keeps its end token, and
    ``meta["cut_tokens"]`` counts what was cut.
    """

    length: Annotated[int, Field(ge=3)]
    path: str
    vocabulary: Annotated[int, Field(ge=VOCABULARY)]

    @property
    def spec(self) -> DataSpec:
        """The `DataSpec` that goes with this preprocessor."""
        return DataSpec(kind="tokens", space=(self.length,), units="token", vocabulary=self.vocabulary)

    def build(self) -> BpeTokenizer:
        """Make the preprocessor. `UserError` for a file that is missing, not byte-level, or too large."""
        return BpeTokenizer(self)


class BpeTokenizer:
    """`normalised` text to ids and back, exactly."""

    tolerance = 0.0

    def __init__(self, config: BpeTokenizerConfig) -> None:
        self.config = config
        self._tokenizer = open_tokenizer(config.path, config.vocabulary)

    def apply(self, sample: Sample) -> Sample:
        """Ids, int64 ``length``, without padding. `TypeError` for what is no text."""
        if is_canonical(sample):
            return sample
        _, ids, offsets = self._encoded(sample)
        end = whole_characters(offsets, 0, self.config.length - 2)
        return _canonical(sample, ids[:end], len(ids) - end)

    def split(self, sample: Sample) -> list[Sample]:
        """The whole of a long text as canonical samples that each fit, cut behind a sentence where there is one.

        Their inverted texts, joined, are the `normalised` text. Of a text that fits it is `apply`'s sample alone.
        """
        text, ids, offsets = self._encoded(sample)
        starts, room = [0], self.config.length - 2
        while (end := whole_characters(offsets, starts[-1], room)) < len(ids):
            behind = [place for place in range(starts[-1] + room // 2, end) if text[offsets[place][1] - 1] in ".\n"]
            starts.append(behind[-1] + 1 if behind else end)
        return [_canonical(sample, ids[a:b], 0) for a, b in pairwise([*starts, len(ids)])]

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """The text between begin and end; bytes that are no UTF-8 (a network's) become U+FFFD. ``like`` is not used."""
        ids, limit = np.asarray(sample.data), self.config.vocabulary
        if isinstance(sample.data, str) or ids.ndim != 1 or ((ids < 0) | (ids >= limit)).any():
            raise ValueError(f"ids are a sequence of 0 to {limit - 1}")
        ends = np.flatnonzero(ids == END)
        ids = ids[: ends[0]] if len(ends) else ids
        pieces = [self._tokenizer.id_to_token(i) or "\ufffd" for i in (ids[ids >= SPECIALS] - SPECIALS).tolist()]
        meta = {key: value for key, value in sample.meta.items() if key != CANONICAL}
        return replace(sample, data=text_of(self._tokenizer, pieces), geometry=None, meta=meta)

    def _encoded(self, sample: Sample) -> tuple[str, list[int], Offsets]:
        """The normalised text, its ids, and the characters that each id begins and ends with."""
        if not isinstance(sample.data, str):
            raise TypeError(f"text is a string, found {type(sample.data).__name__}")
        text = encodable(sample.data)
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return text, found.ids, found.offsets

    def to_json(self) -> str:
        """The tokenizer as the text of a ``tokenizer.json``, for a bundle to keep."""
        return self._tokenizer.to_str(pretty=True)


def _canonical(sample: Sample, ids: list[int], cut: int) -> Sample:
    data = np.array([BEGIN, *(piece + SPECIALS for piece in ids), END], dtype=np.int64)
    return replace(sample, data=data, meta={**sample.meta, CANONICAL: True, "cut_tokens": cut})


def whole_characters(offsets: Offsets, start: int, room: int) -> int:
    """The place behind at most ``room`` tokens from ``start`` on that splits no character."""
    end = min(start + room, len(offsets))
    while start + 1 < end < len(offsets) and offsets[end][0] < offsets[end - 1][1]:
        end -= 1
    return end
