"""From a transformer's features to a `Prompt` (method E1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.types import Prompt


class PromptHead(nn.Module):
    """Two projections and a learned null token, which comes first and does not depend on the input.

    ``regions``: the number of regional means that the pooled vector is made from, in addition to the mean of all.
    """

    def __init__(self, width: int, prompt_width: int, regions: int = 0) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.randn(prompt_width) * prompt_width**-0.5)
        self.to_tokens = nn.Linear(width, prompt_width)
        self.to_pooled = nn.Linear(width * (1 + regions), prompt_width)

    def forward(self, features: Tensor, mask: Tensor, regions: Tensor | None = None) -> Prompt:
        """Project ``features`` ``batch length width``, ``mask`` bool ``batch length``, to a `Prompt` one token longer.

        ``pooled`` is the projected mean of the unmasked features, of unit norm (float32 under autocast too); with
        ``regions`` ``batch regions width`` it is projected from that mean and the regional means.
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
