"""Text to byte tokens and back: every text in every language, no vocabulary to train."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from core.contract.modality import PartConfig
from core.preprocess.grid import CANONICAL, is_canonical
from core.types import DataSpec, Geometry, Sample

PAD, BEGIN, END = 0, 1, 2
_SPECIALS = 3
VOCABULARY = 256 + _SPECIALS


class ByteTokenizerConfig(PartConfig):
    """Token ids of UTF-8 bytes: 0 padding, 1 begin, 2 end, then byte ``b`` is ``b + 3``; 259 in all.

    ``length`` counts the begin and end tokens. A longer text is cut between two characters, keeps its end token, and
    ``meta["cut_tokens"]`` counts the bytes that were cut.
    """

    length: Annotated[int, Field(ge=3)]

    @property
    def spec(self) -> DataSpec:
        """The `DataSpec` that goes with this preprocessor."""
        return DataSpec(kind="tokens", space=(self.length,), units="byte", vocabulary=VOCABULARY)

    def build(self) -> ByteTokenizer:
        """Make the preprocessor."""
        return ByteTokenizer(self)


class ByteTokenizer:
    """`normalised` text to ids and back, exactly."""

    tolerance = 0.0

    def __init__(self, config: ByteTokenizerConfig) -> None:
        self.config = config

    def apply(self, sample: Sample) -> Sample:
        """Ids, int64 ``length``, without padding. `TypeError` for what is no text."""
        if is_canonical(sample):
            return sample
        if not isinstance(sample.data, str):
            raise TypeError(f"text is a string, found {type(sample.data).__name__}")
        content = normalised(sample.data).encode("utf-8", errors="replace")
        kept = content[: self.config.length - 2].decode("utf-8", errors="ignore").encode()
        ids = np.array([BEGIN, *(byte + _SPECIALS for byte in kept), END], dtype=np.int64)
        meta = {**sample.meta, CANONICAL: True, "cut_tokens": len(content) - len(kept)}
        return replace(sample, data=ids, meta=meta)

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """The text between begin and end; bytes that are no UTF-8 (a network's) become U+FFFD. ``like`` is not used."""
        ids = np.asarray(sample.data)
        if isinstance(sample.data, str) or ids.ndim != 1 or ((ids < 0) | (ids >= VOCABULARY)).any():
            raise ValueError(f"ids are a sequence of 0 to {VOCABULARY - 1}")
        ends = np.flatnonzero(ids == END)
        ids = ids[: ends[0]] if len(ends) else ids
        text = bytes((ids[ids >= _SPECIALS] - _SPECIALS).tolist()).decode("utf-8", errors="replace")
        meta = {key: value for key, value in sample.meta.items() if key != CANONICAL}
        return replace(sample, data=text, geometry=None, meta=meta)


def normalised(text: str) -> str:
    """White space made even: ``\\n`` line ends, single spaces, no space at line ends, no empty lines."""
    lines = (re.sub(r"[^\S\n]+", " ", line).strip() for line in re.split(r"\r\n|\r|\n", text))
    return "\n".join(line for line in lines if line)
