"""The projector in front of the invariance loss (METHOD E3; Barlow Twins). Thrown away after the phase."""

from __future__ import annotations

from torch import Tensor, nn

_WIDEST = 2048


class Projector(nn.Module):
    """Linear-BN-ReLU twice, Linear, BN without affine: ``batch width`` to ``batch`` 4 ``width`` (at most 2048).

    Batch normalisation sees the rows it is given: with several processes, give it those of all.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = min(_WIDEST, 4 * width)
        self.layers = nn.Sequential(
            nn.Linear(width, inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(),
            nn.Linear(inner, inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(),
            nn.Linear(inner, inner, bias=False),
            nn.BatchNorm1d(inner, affine=False),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """``batch width`` to standardised ``batch inner``."""
        return self.layers(pooled)
