"""The prompts of studies by encoders that are frozen: encoded once, not at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.data.studies import Studies
from core.engine.distributed import Compute
from core.types import Prompt

_ROWS = 64  # studies encoded at once
MOST_BYTES = 2**31  # kept in memory; more is encoded anew at every step


class StudyPrompts:
    """What a frozen encoder makes of one modality of some studies.

    The studies are encoded in the order of their places, so that a resumed run finds the same prompts to the bit.
    """

    def __init__(self, encoder: Any, name: str, places: Sequence[int], studies: Studies, compute: Compute) -> None:
        self.encoder, self.name, self.studies, self.compute = encoder, name, studies, compute
        self._rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        ordered = sorted(set(places))
        first = ordered[:_ROWS]
        if first and _num_bytes(self._encoded(first)) / len(first) * len(ordered) <= MOST_BYTES:
            for start in range(0, len(ordered), _ROWS):
                self._keep(ordered[start : start + _ROWS])

    def of(self, places: Sequence[int]) -> Prompt:
        """The prompts of these studies, on the device, as long as the longest of them."""
        if not set(places) <= self._rows.keys():
            return self._encoded(places)
        rows = [self._rows[place] for place in places]
        length = max(len(tokens) for tokens, _, _ in rows)
        placed = self.compute.placed
        return Prompt(
            tokens=placed(torch.stack([F.pad(tokens, (0, 0, 0, length - len(tokens))) for tokens, _, _ in rows])),
            pooled=placed(torch.stack([pooled for _, pooled, _ in rows])),
            mask=placed(torch.stack([F.pad(mask, (0, length - len(mask))) for _, _, mask in rows])),
        )

    def _encoded(self, places: Sequence[int]) -> Prompt:
        with torch.no_grad():
            return self.encoder(self.compute.placed(self.studies.batch(self.name, places)))

    def _keep(self, places: Sequence[int]) -> None:
        found = self._encoded(places)
        for place, tokens, pooled, mask in zip(
            places, found.tokens.cpu(), found.pooled.cpu(), found.mask.cpu(), strict=True
        ):
            length = int(mask.nonzero().max()) + 1  # token 0 is never masked
            self._rows[place] = (tokens[:length].clone(), pooled.clone(), mask[:length].clone())


def _num_bytes(prompt: Prompt) -> int:
    return sum(value.numel() * value.element_size() for value in (prompt.tokens, prompt.pooled, prompt.mask))
