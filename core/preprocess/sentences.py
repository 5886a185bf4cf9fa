"""Random parts of a report, for training: what a user types is shorter than what a radiologist dictates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator

_END = re.compile(r"(?<=[.!?])[^\S\n]+|\n+")  # "3.5 cm" holds none: white space follows a full stop


def some_sentences(text: str, generator: Generator) -> str:
    """Return some of the sentences of a text, in their order: at least one, and not all where there are several.

    Any number of them is as probable as another. Lines count as sentences, as the headings of a report are lines.
    """
    import torch

    starts = [0, *(match.end() for match in _END.finditer(text))]
    sentences = [part for part in map(slice, starts, [*starts[1:], None]) if text[part].strip()]
    if len(sentences) < 2:
        return text
    num = 1 + int(torch.randint(0, len(sentences) - 1, (1,), generator=generator))
    chosen = sorted(torch.randperm(len(sentences), generator=generator)[:num].tolist())
    return "".join(text[sentences[number]] for number in chosen).strip()
