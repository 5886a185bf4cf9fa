"""Prompts of several modalities to what a denoiser is conditioned on (METHOD E4, E6, E6b).

The prompts of studies by encoders that are frozen: encoded once, not at every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.data.studies import Studies
from core.engine.distributed import Compute
from core.types import Conditioning, Prompt


class PromptAssembly(nn.Module):
    """``[null token, pooled vector and tokens of each prompt]``; trained with the denoiser it belongs to.

    ``width`` of the shared space; ``sources`` are the modalities that may prompt. The null token is learned, and a
    source embedding says from whom a token comes.
    """

    def __init__(self, width: int, sources: tuple[str, ...]) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        self.source = nn.ParameterDict({_key(name): nn.Parameter(torch.randn(width) * 0.02) for name in sources})

    def forward(self, prompts: Mapping[str, Prompt], drop: Tensor, pooled_only: Tensor | None = None) -> Conditioning:
        """``prompts`` by modality, ``drop`` bool ``batch``: rows that get the null prompt (METHOD E6).

        ``pooled_only`` bool ``batch``: rows that hear the pooled vectors alone: all that a modality which never
        prompted this one can give (METHOD E6b).

        The pooled vectors are mixed with equal weights and not normalised again (METHOD E4, MedCoDi-M Eq. 1); that of
        the null prompt is zero.
        """
        rows = len(drop)
        tokens, mask = [self.null.expand(rows, 1, -1)], [torch.ones(rows, 1, dtype=torch.bool, device=drop.device)]
        for name, prompt in prompts.items():
            told = torch.cat([prompt.pooled[:, None], prompt.tokens[:, 1:]], 1)
            tokens.append(told + self.source[_key(name)])
            heard = prompt.mask[:, 1:] if pooled_only is None else prompt.mask[:, 1:] & ~pooled_only[:, None]
            mask.append(torch.cat([torch.ones_like(mask[0]), heard], 1))
        kept = torch.cat(mask, 1) & ~drop[:, None]
        kept[:, 0] = True
        # Without any prompt the pooled vector is that of the null prompt, which a denoiser may insist on.
        pooled = [prompt.pooled for prompt in prompts.values()] or [self.null.new_zeros(rows, len(self.null))]
        mixed = torch.stack(pooled).mean(0) * ~drop[:, None]
        return Conditioning(prompt=torch.cat(tokens, 1), prompt_mask=kept, pooled=mixed)


def _key(modality: str) -> str:
    """A modality may be called ``keys`` or ``training``, which a module's own attributes are too."""
    return f"from_{modality}"


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
        placed = self.compute.to_device
        return Prompt(
            tokens=placed(torch.stack([F.pad(tokens, (0, 0, 0, length - len(tokens))) for tokens, _, _ in rows])),
            pooled=placed(torch.stack([pooled for _, pooled, _ in rows])),
            mask=placed(torch.stack([F.pad(mask, (0, length - len(mask))) for _, _, mask in rows])),
        )

    def _encoded(self, places: Sequence[int]) -> Prompt:
        with torch.no_grad():
            return self.encoder(self.compute.to_device(self.studies.batch(self.name, places)))

    def _keep(self, places: Sequence[int]) -> None:
        found = self._encoded(places)
        for place, tokens, pooled, mask in zip(
            places, found.tokens.cpu(), found.pooled.cpu(), found.mask.cpu(), strict=True
        ):
            length = int(mask.nonzero().max()) + 1  # token 0 is never masked
            self._rows[place] = (tokens[:length].clone(), pooled.clone(), mask[:length].clone())


def _num_bytes(prompt: Prompt) -> int:
    return sum(value.numel() * value.element_size() for value in (prompt.tokens, prompt.pooled, prompt.mask))
