"""Environment contrast: the environments of one study resemble each other (METHOD E14)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from core.align.losses import info_nce


class EnvironmentContrast(nn.Module):
    """Symmetric InfoNCE between pooled V_A and V_B with a learnable temperature (METHOD E14; CoDi_XR III-C)."""

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, v_a: Tensor, v_b: Tensor, equal: Tensor | None = None) -> Tensor:
        """``v_a`` and ``v_b`` ``batch width`` of unit norm, row ``i`` of both of one study; 0 below two studies.

        ``equal`` bool ``batch batch``: rows that are no negatives of each other (METHOD E1).
        """
        if len(v_a) < 2:
            return v_a.new_zeros(())
        return info_nce(v_a, v_b, self.logit_scale, equal)
