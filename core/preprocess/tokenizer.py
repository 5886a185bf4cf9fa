"""Convert text to token ids and back, exactly: bytes, or a trained byte-level BPE that gives several times fewer ids.

Bytes express every text in every language without training. Files of trained tokenizers are JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
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
    from torch import Generator


PAD, BEGIN, END = 0, 1, 2
SPECIALS = 3
VOCABULARY = 256 + SPECIALS
_PROBE = "Gr\u00f6\u00dfe 12 \u00b5m:\n \u5fc3\u5f71  No effusion, 3.5 x 2 cm"
_IN_PACKAGE = re.compile(r"([A-Za-z_][\w.]+):([^/\\:]+)")

# White space behind a full stop; "3.5 cm" has none. A line break alone ends no sentence: many reports are wrapped.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

Offsets = list[tuple[int, int]]


class ByteTokenizerConfig(PartConfig):
    """Token ids of UTF-8 bytes: 0 padding, 1 begin, 2 end, then byte ``b`` is ``b + 3``; 259 in all.

    ``length`` counts the begin and end tokens. A longer text is cut between two characters, keeps its end token, and
    ``meta["cut_tokens"]`` counts the bytes that were cut.
    """

    length: Annotated[int, Field(ge=3)]

    @property
    def spec(self) -> DataSpec:
        """Return the `DataSpec` that goes with this preprocessor."""
        return DataSpec(kind="tokens", space=(self.length,), units="byte", vocabulary=VOCABULARY)

    def build(self) -> ByteTokenizer:
        """Make the preprocessor."""
        return ByteTokenizer(self)


class ByteTokenizer:
    """Convert text to ids and back, exactly, but for white space (see `normalise_text`)."""

    tolerance = 0.0

    def __init__(self, config: ByteTokenizerConfig) -> None:
        self.config = config

    def apply(self, sample: Sample) -> Sample:
        """Return ids, int64 ``length``, without padding; `TypeError` for data that is no text."""
        if is_canonical(sample):
            return sample
        if not isinstance(sample.data, str):
            raise TypeError(f"text is a string, found {type(sample.data).__name__}")
        content = normalise_text(sample.data).encode("utf-8", errors="replace")
        start = content[: self.config.length - 2].decode("utf-8", errors="ignore").encode()
        ids = np.array([BEGIN, *(byte + SPECIALS for byte in start), END], dtype=np.int64)
        meta = {**sample.meta, CANONICAL: True, "cut_tokens": len(content) - len(start)}
        return replace(sample, data=ids, meta=meta)

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """Return the text between begin and end; bytes that are no UTF-8 become U+FFFD. ``like`` is not used."""
        ids = np.asarray(sample.data)
        if isinstance(sample.data, str) or ids.ndim != 1 or ((ids < 0) | (ids >= VOCABULARY)).any():
            raise ValueError(f"ids are a sequence of 0 to {VOCABULARY - 1}")
        ends = np.flatnonzero(ids == END)
        ids = ids[: ends[0]] if len(ends) else ids
        text = bytes((ids[ids >= SPECIALS] - SPECIALS).tolist()).decode("utf-8", errors="replace")
        meta = {key: value for key, value in sample.meta.items() if key != CANONICAL}
        return replace(sample, data=text, geometry=None, meta=meta)


class BpeTokenizerConfig(PartConfig):
    """Token ids of a byte-level BPE: 0 padding, 1 begin, 2 end, then id ``i`` of the file is ``i + 3``.

    ``path`` is a ``tokenizer.json``, by `train_tokenizer` or another byte-level one (GPT-2's): a file, or
    ``package.module:file`` for one that lies in an installed package. ``vocabulary`` is the number of ids that the
    networks are built for, at least 3 more than the file holds: a tokenizer trained with the same ``vocabulary``
    replaces another by its path alone.

    ``length`` counts the begin and end tokens. A longer text is cut between two characters, keeps its end token, and
    ``meta["cut_tokens"]`` counts what was cut.
    """

    length: Annotated[int, Field(ge=3)]
    path: str
    vocabulary: Annotated[int, Field(ge=VOCABULARY)]

    @property
    def spec(self) -> DataSpec:
        """Return the `DataSpec` that goes with this preprocessor."""
        return DataSpec(kind="tokens", space=(self.length,), units="token", vocabulary=self.vocabulary)

    def build(self) -> BpeTokenizer:
        """Make the preprocessor. `UserError` for a file that is missing, not byte-level, or too large."""
        return BpeTokenizer(self)


class BpeTokenizer:
    """Convert text to ids and back, exactly, but for white space (see `normalise_text`)."""

    tolerance = 0.0

    def __init__(self, config: BpeTokenizerConfig) -> None:
        self.config = config
        self._tokenizer = open_tokenizer(config.path, config.vocabulary)

    def apply(self, sample: Sample) -> Sample:
        """Return ids, int64 ``length``, without padding; `TypeError` for data that is no text."""
        if is_canonical(sample):
            return sample
        _, ids, offsets = self._encode(sample)
        end = whole_characters(offsets, 0, self.config.length - 2)
        return _canonical(sample, ids[:end], len(ids) - end)

    def split(self, sample: Sample) -> list[Sample]:
        """Return all of a long text as canonical samples that each fit, cut behind a sentence where possible.

        Their inverted texts, joined, are the normalised text. A text that fits gives the sample of `apply` alone.
        """
        text, ids, offsets = self._encode(sample)
        starts, room = [0], self.config.length - 2
        while (end := whole_characters(offsets, starts[-1], room)) < len(ids):
            ends = [token for token in range(starts[-1] + room // 2, end) if text[offsets[token][1] - 1] in ".\n"]
            starts.append(ends[-1] + 1 if ends else end)
        return [_canonical(sample, ids[a:b], 0) for a, b in pairwise([*starts, len(ids)])]

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """Return the text between begin and end; bytes that are no UTF-8 become U+FFFD. ``like`` is not used."""
        ids, limit = np.asarray(sample.data), self.config.vocabulary
        if isinstance(sample.data, str) or ids.ndim != 1 or ((ids < 0) | (ids >= limit)).any():
            raise ValueError(f"ids are a sequence of 0 to {limit - 1}")
        ends = np.flatnonzero(ids == END)
        ids = ids[: ends[0]] if len(ends) else ids
        pieces = [self._tokenizer.id_to_token(i) or "\ufffd" for i in (ids[ids >= SPECIALS] - SPECIALS).tolist()]
        meta = {key: value for key, value in sample.meta.items() if key != CANONICAL}
        return replace(sample, data=decode_pieces(self._tokenizer, pieces), geometry=None, meta=meta)

    def _encode(self, sample: Sample) -> tuple[str, list[int], Offsets]:
        """Return the normalised text, its ids, and where in the text each id begins and ends."""
        if not isinstance(sample.data, str):
            raise TypeError(f"text is a string, found {type(sample.data).__name__}")
        text = encodable_text(sample.data)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return text, encoding.ids, encoding.offsets

    def to_json(self) -> str:
        """Return the tokenizer as the text of a ``tokenizer.json``, for a bundle to store."""
        return self._tokenizer.to_str(pretty=True)


def _canonical(sample: Sample, ids: list[int], cut: int) -> Sample:
    data = np.array([BEGIN, *(piece + SPECIALS for piece in ids), END], dtype=np.int64)
    return replace(sample, data=data, meta={**sample.meta, CANONICAL: True, "cut_tokens": cut})


def whole_characters(offsets: Offsets, start: int, room: int) -> int:
    """Return the index behind at most ``room`` tokens from ``start`` on that splits no character."""
    end = min(start + room, len(offsets))
    while start + 1 < end < len(offsets) and offsets[end][0] < offsets[end - 1][1]:
        end -= 1
    return end


def normalise_text(text: str) -> str:
    """Normalise white space: ``\\n`` line ends, single spaces, no space at line ends, no empty lines."""
    lines = (re.sub(r"[^\S\n]+", " ", line).strip() for line in re.split(r"\r\n|\r|\n", text))
    return "\n".join(line for line in lines if line)


def encodable_text(text: str) -> str:
    """Return the normalised text, with ``?`` for what UTF-8 cannot express."""
    return normalise_text(text).encode("utf-8", errors="replace").decode("utf-8")


def decode_pieces(tokenizer: Tokenizer, pieces: list[str]) -> str:
    """Return the text of tokens; bytes that are no UTF-8 become U+FFFD."""
    decoder = tokenizer.decoder
    return decoder.decode(pieces) if decoder is not None else "".join(pieces)


def some_sentences(text: str, generator: Generator) -> str:
    """Return some of the sentences of a text, in their order: at least one, and not all where there are several.

    Any number of them is as probable as another. A heading belongs to the sentence behind it (method E6d).
    """
    import torch

    starts = [0, *(match.end() for match in _SENTENCE_END.finditer(text))]
    sentences = [part for part in map(slice, starts, [*starts[1:], None]) if text[part].strip()]
    if len(sentences) < 2:
        return text
    num = 1 + int(torch.randint(0, len(sentences) - 1, (1,), generator=generator))
    chosen = sorted(torch.randperm(len(sentences), generator=generator)[:num].tolist())
    return "".join(text[sentences[number]] for number in chosen).strip()


def train_tokenizer(texts: Iterable[str], vocabulary: int = 1024, *, min_count: int = 5) -> str:
    """Return the text of a ``tokenizer.json`` for `BpeTokenizerConfig`; train on texts of the *training split only*.

    It has at most ``vocabulary`` ids, the three specials included, and fewer where no further piece occurs
    ``min_count`` times: rarer pieces may be names, and stay in bytes. Digits stand alone. The same texts give the same
    file. `UserError`: a vocabulary too small for the bytes.
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
    tokenizer.train_from_iterator((encodable_text(text) for text in texts), trainer)
    return tokenizer.to_str(pretty=True)


def open_tokenizer(path: str, vocabulary: int) -> Tokenizer:
    """Open a tokenizer from a file or ``package.module:file``; `UserError` where it is missing, lossy or too large."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(_content(path))
    except (OSError, ModuleNotFoundError) as error:
        raise UserError(f"tokenizer '{path}' cannot be read: {error}") from None
    except Exception as error:  # the library raises bare Exceptions
        raise UserError(f"tokenizer '{path}' is no tokenizer.json: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    pieces = tokenizer.encode(_PROBE, add_special_tokens=False).tokens
    if decode_pieces(tokenizer, pieces) != _PROBE:
        raise UserError(f"tokenizer '{path}' does not restore a text exactly; a byte-level BPE does")
    needed = tokenizer.get_vocab_size() + SPECIALS
    if needed > vocabulary:
        raise UserError(
            f"tokenizer '{path}' has {needed} ids, the networks are made for {vocabulary}; train one "
            f"with vocabulary={vocabulary}, or choose a preset with room for it"
        )
    return tokenizer


def _content(path: str) -> str:
    """Return the text of a file, or of ``package.module:file``."""
    inside = _IN_PACKAGE.fullmatch(path)
    source = _in_package(inside[1], inside[2]) if inside else Path(path).expanduser()
    return source.read_text(encoding="utf-8")


def _in_package(package: str, file: str) -> Path:
    """Return where a file of a package lies; `ModuleNotFoundError` where there is no such package.

    Nothing is imported: the name may stand in the configuration of somebody else's run, and importing runs code. To
    look for an inner package by its dotted name would import the outer ones.
    """
    outer, *inner = package.split(".")
    spec = find_spec(outer)
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(root).joinpath(*inner)
        if (folder / file).is_file():
            return folder / file
    raise ModuleNotFoundError(f"no installed package '{package}' has a file '{file}'")
