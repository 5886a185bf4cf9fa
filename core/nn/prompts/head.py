"""From a transformer's features to a `Prompt` (method E1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.types import Prompt


class PromptHead(nn.Module):
    """The projection to the pooled vector. Tokens are the features themselves, after a null token of zeros.

    Alignment trains the pooled vector alone, so a projection of tokens would stay random: a denoiser learns its own
    reading of them (`core.diffuse.prompts.PromptAssembly`). ``regions``: the number of regional means that the pooled
    vector is made from, in addition to the mean of all.
    """

    def __init__(self, width: int, prompt_width: int, regions: int = 0) -> None:
        super().__init__()
        self.to_pooled = nn.Linear(width * (1 + regions), prompt_width)

    def forward(self, features: Tensor, mask: Tensor, regions: Tensor | None = None) -> Prompt:
        """Return ``features`` ``batch length width``, ``mask`` bool ``batch length``, as a `Prompt` one token longer.

        ``pooled`` is the projected mean of the unmasked features, of unit norm (float32 under autocast too); with
        ``regions`` ``batch regions width`` it is projected from that mean and the regional means.
        """
        count = mask.sum(1, keepdim=True).clamp(min=1)
        mean = features.masked_fill(~mask[..., None], 0).sum(1) / count
        if regions is not None:
            mean = torch.cat([mean, regions.flatten(1)], dim=1)
        return Prompt(
            tokens=F.pad(features, (0, 0, 1, 0)),
            pooled=F.normalize(self.to_pooled(mean).float(), dim=-1),
            mask=F.pad(mask, (1, 0), value=True),
        )
