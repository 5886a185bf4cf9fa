"""Prompts of several modalities as the conditioning of a denoiser (method E4, E6, E6b).

Frozen encoders encode the prompts of studies once, not at every step.
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

_ROWS = 64  # studies encoded at once
MOST_BYTES = 2**31  # cached in memory; more is encoded again at every step


class PromptAssembly(nn.Module):
    """``[null token, pooled vector and tokens of each prompt]``; trained with the denoiser it belongs to.

    ``width`` of the shared space; ``sources`` are the modalities that may prompt. The null token is learned, and a
    source embedding marks the modality of each token.
    """

    def __init__(self, width: int, sources: tuple[str, ...]) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        self.source = nn.ParameterDict({_key(name): nn.Parameter(torch.randn(width) * 0.02) for name in sources})

    def forward(self, prompts: Mapping[str, Prompt], drop: Tensor, pooled_only: Tensor | None = None) -> Conditioning:
        """Assemble ``prompts`` by modality; ``drop`` bool ``batch``: rows that get the null prompt (method E6).

        ``pooled_only`` bool ``batch``: rows that are conditioned on the pooled vectors alone, which is all that a
        modality without joint training contributes (method E6b).

        The pooled vectors are averaged with equal weights and not normalised again (method E4, MedCoDi-M Eq. 1); that
        of the null prompt is zero.
        """
        rows = len(drop)
        tokens, mask = [self.null.expand(rows, 1, -1)], [torch.ones(rows, 1, dtype=torch.bool, device=drop.device)]
        for name, prompt in prompts.items():
            features = torch.cat([prompt.pooled[:, None], prompt.tokens[:, 1:]], 1)
            tokens.append(features + self.source[_key(name)])
            visible = prompt.mask[:, 1:] if pooled_only is None else prompt.mask[:, 1:] & ~pooled_only[:, None]
            mask.append(torch.cat([torch.ones_like(mask[0]), visible], 1))
        attended = torch.cat(mask, 1) & ~drop[:, None]
        attended[:, 0] = True
        # Without any prompt the pooled vector is that of the null prompt, which a denoiser may require.
        pooled = [prompt.pooled for prompt in prompts.values()] or [self.null.new_zeros(rows, len(self.null))]
        mixed = torch.stack(pooled).mean(0) * ~drop[:, None]
        return Conditioning(prompt=torch.cat(tokens, 1), prompt_mask=attended, pooled=mixed)


def _key(modality: str) -> str:
    """Return a parameter name: a modality may be called ``keys`` or ``training``, as attributes of a module are."""
    return f"from_{modality}"


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
