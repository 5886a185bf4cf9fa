"""The learnable temperature of the contrast (METHOD E1; CLIP)."""

from __future__ import annotations

import math

import torch
from torch import nn


class Temperature(nn.Module):
    """``logit_scale``, the logarithm of 1 / temperature, trained with a round."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / start)))

    def bound(self) -> None:
        """Put it back into CLIP's bounds, 1 to 0.01; to be called before a step, as CLIP does after one."""
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))

    @property
    def value(self) -> float:
        """The temperature as it is now."""
        return float(torch.exp(-self.logit_scale.detach()))
