"""Prompts of several modalities to what a denoiser is conditioned on (METHOD E4, E6, E6b)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

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
