"""From a transformer's features to a `Prompt` (METHOD E1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.types import Prompt


class PromptHead(nn.Module):
    """Two projections and a learned null token, which goes first and tells nothing of the input.

    ``regions``: how many means of some of the features the pooled vector is made from, beside the mean of all.
    """

    def __init__(self, width: int, prompt_width: int, regions: int = 0) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.randn(prompt_width) * prompt_width**-0.5)
        self.to_tokens = nn.Linear(width, prompt_width)
        self.to_pooled = nn.Linear(width * (1 + regions), prompt_width)

    def forward(self, features: Tensor, mask: Tensor, regions: Tensor | None = None) -> Prompt:
        """``features`` ``batch length width``, ``mask`` bool ``batch length``; a `Prompt` one token longer.

        ``pooled`` is the projected mean of the features that count, of unit norm (float32 under autocast too); where
        there are regions, of that mean and their own, ``batch regions width``.
        """
        count = mask.sum(1, keepdim=True).clamp(min=1)
        mean = features.masked_fill(~mask[..., None], 0).sum(1) / count
        if regions is not None:
            mean = torch.cat([mean, regions.flatten(1)], dim=1)
        tokens = self.to_tokens(features)
        null = self.null.to(tokens.dtype).expand(len(tokens), 1, -1)
        return Prompt(
            tokens=torch.cat([null, tokens], dim=1),
            pooled=F.normalize(self.to_pooled(mean).float(), dim=-1),
            mask=F.pad(mask, (1, 0), value=True),
        )
