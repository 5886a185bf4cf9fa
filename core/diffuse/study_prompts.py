"""The prompts of studies, which frozen encoders compute once and not at every step."""

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
MOST_BYTES = 2**31  # cached in memory; more is encoded again at every step


class StudyPrompts:
    """The prompts that a frozen encoder computes from one modality of some studies.

    The studies are encoded in the order of their indices, so that a resumed run gets bit-equal prompts.
    """

    def __init__(self, encoder: Any, name: str, indices: Sequence[int], studies: Studies, compute: Compute) -> None:
        self.encoder, self.name, self.studies, self.compute = encoder, name, studies, compute
        self._rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        ordered = sorted(set(indices))
        first = ordered[:_ROWS]
        if first and _num_bytes(self._encode(first)) / len(first) * len(ordered) <= MOST_BYTES:
            for start in range(0, len(ordered), _ROWS):
                self._cache(ordered[start : start + _ROWS])

    def prompts_of(self, indices: Sequence[int]) -> Prompt:
        """Return the prompts of these studies on the device, padded to the longest of them."""
        if not set(indices) <= self._rows.keys():
            return self._encode(indices)
        rows = [self._rows[index] for index in indices]
        length = max(len(tokens) for tokens, _, _ in rows)
        to_device = self.compute.to_device
        return Prompt(
            tokens=to_device(torch.stack([F.pad(tokens, (0, 0, 0, length - len(tokens))) for tokens, _, _ in rows])),
            pooled=to_device(torch.stack([pooled for _, pooled, _ in rows])),
            mask=to_device(torch.stack([F.pad(mask, (0, length - len(mask))) for _, _, mask in rows])),
        )

    def _encode(self, indices: Sequence[int]) -> Prompt:
        with torch.no_grad():
            return self.encoder(self.compute.to_device(self.studies.batch(self.name, indices)))

    def _cache(self, indices: Sequence[int]) -> None:
        prompt = self._encode(indices)
        for index, tokens, pooled, mask in zip(
            indices, prompt.tokens.cpu(), prompt.pooled.cpu(), prompt.mask.cpu(), strict=True
        ):
            length = int(mask.nonzero().max()) + 1  # token 0 is never masked
            self._rows[index] = (tokens[:length].clone(), pooled.clone(), mask[:length].clone())


def _num_bytes(prompt: Prompt) -> int:
    return sum(value.numel() * value.element_size() for value in (prompt.tokens, prompt.pooled, prompt.mask))
