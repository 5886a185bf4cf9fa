"""Files of tokenizers: trained, opened and checked. JSON only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.preprocess.tokens import VOCABULARY, normalised

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
