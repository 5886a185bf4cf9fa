"""Random parts of a report, for training: what a user types is shorter than what a radiologist dictates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator

# White space behind a full stop; "3.5 cm" has none. A line break alone ends no sentence: many reports are wrapped.
_END = re.compile(r"(?<=[.!?])\s+")


def some_sentences(text: str, generator: Generator) -> str:
    """Return some of the sentences of a text, in their order: at least one, and not all where there are several.

    Any number of them is as probable as another. A heading belongs to the sentence behind it.
    """
    import torch

    starts = [0, *(match.end() for match in _END.finditer(text))]
    sentences = [part for part in map(slice, starts, [*starts[1:], None]) if text[part].strip()]
    if len(sentences) < 2:
        return text
    num = 1 + int(torch.randint(0, len(sentences) - 1, (1,), generator=generator))
    chosen = sorted(torch.randperm(len(sentences), generator=generator)[:num].tolist())
    return "".join(text[sentences[number]] for number in chosen).strip()
