"""Text to tokens of a trained byte-level BPE and back: as exact as bytes, and several times shorter.

Text to byte tokens and back: every text in every language, no vocabulary to train.

Files of tokenizers: trained, opened and checked. JSON only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from core.contract.modality import PartConfig
from core.errors import UserError
from core.preprocess.grid import CANONICAL, is_canonical
from core.types import DataSpec, Geometry, Sample

if TYPE_CHECKING:
    from tokenizers import Tokenizer


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


SPECIALS = 3
_PROBE = "Gr\u00f6\u00dfe 12 \u00b5m:\n \u5fc3\u5f71  No effusion, 3.5 x 2 cm"
_IN_PACKAGE = re.compile(r"([A-Za-z_][\w.]+):([^/\\:]+)")


def train_tokenizer(texts: Iterable[str], vocabulary: int = 1024, *, min_count: int = 5) -> str:
    """The text of a ``tokenizer.json`` for `BpeTokenizerConfig`, trained on texts of the *training split only*.

    At most ``vocabulary`` ids, the three specials included; fewer when pieces that occur ``min_count`` times are used
    up (what is rarer may be a name, and stays in bytes). Digits stand alone. The same texts give the same file.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocabulary < VOCABULARY:
        raise UserError(f"a byte-level tokenizer has at least {VOCABULARY} ids, found vocabulary {vocabulary}")
    tokenizer = Tokenizer(models.BPE())
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, in_bytes])  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - SPECIALS,
        min_frequency=min_count,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((encodable(text) for text in texts), trainer)
    return tokenizer.to_str(pretty=True)


def text_of(tokenizer: Tokenizer, pieces: list[str]) -> str:
    """Tokens to text; bytes that are no UTF-8 become U+FFFD."""
    decoder = tokenizer.decoder
    return decoder.decode(pieces) if decoder is not None else "".join(pieces)


def encodable(text: str) -> str:
    """The `normalised` text, with ``?`` for what UTF-8 cannot hold."""
    return normalised(text).encode("utf-8", errors="replace").decode("utf-8")


def open_tokenizer(given: str, vocabulary: int) -> Tokenizer:
    """A tokenizer from a file, or from ``package.module:file``. `UserError` for one that cannot serve."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(_content(given))
    except (OSError, ModuleNotFoundError) as error:
        raise UserError(f"tokenizer '{given}' cannot be read: {error}") from None
    except Exception as error:  # the library raises bare Exceptions
        raise UserError(f"tokenizer '{given}' is no tokenizer.json: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    pieces = tokenizer.encode(_PROBE, add_special_tokens=False).tokens
    if text_of(tokenizer, pieces) != _PROBE:
        raise UserError(f"tokenizer '{given}' does not give a text back as it was; a byte-level BPE does")
    needed = tokenizer.get_vocab_size() + SPECIALS
    if needed > vocabulary:
        raise UserError(
            f"tokenizer '{given}' has {needed} ids, the networks are made for {vocabulary}; train one "
            f"with vocabulary={vocabulary}, or choose a preset with room for it"
        )
    return tokenizer


def _content(path: str) -> str:
    """Text of the file, or of ``package.module:file``."""
    inside = _IN_PACKAGE.fullmatch(path)
    source = files(inside[1]).joinpath(inside[2]) if inside else Path(path).expanduser()
    return source.read_text(encoding="utf-8")


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
