"""What pooled vectors tell of findings: one reader for all modalities of a round (ours, docs/decisions/0017)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from core.align.losses import finding_loss
from core.align.told import Told
from core.engine.rng import seeded

_SCALE = 10.0  # of pooled vectors, which have unit norm: no large weights are needed to be sure


class Findings(nn.Module):
    """A linear layer from the pooled vector of any modality to the logits of the findings; gone after its round.

    Both ends of a pair are read by the same weights, so that what a report says of a finding points where the image
    shows it. ``names``: findings, and details of them such as side and grade.
    """

    def __init__(self, names: Sequence[str], told: Told, width: int, seed: int) -> None:
        super().__init__()
        self.names, self._told = names, told
        with seeded(seed, "findings"):
            self.read = nn.Linear(width, len(names))
        nn.init.zeros_(self.read.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """``batch width`` of unit norm to logits ``batch finding``."""
        return self.read(_SCALE * pooled)

    def loss(self, pooled: Tensor, places: Sequence[int]) -> Tensor:
        """How well the pooled vectors of one modality of these studies tell what is known, summed over the findings."""
        rows = [self._told.of(place, self.names) for place in places]
        labels = [[told.get(name, float("nan")) for name in self.names] for told in rows]
        return len(self.names) * finding_loss(self(pooled), pooled.new_tensor(labels))
