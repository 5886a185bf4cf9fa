"""What pooled vectors tell of findings: one reader for all modalities of a round (ours, docs/decisions/0017)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from core.align.losses import finding_loss
from core.preprocess.studies import Studies

_SCALE = 10.0  # of pooled vectors, which have unit norm: no large weights are needed to be sure


def findings_of(studies: Studies, places: Iterable[int]) -> tuple[str, ...]:
    """The labels that some of these studies have and others lack: what there is to tell."""
    told = {item for place in places for item in studies.records[place].labels.items()}
    return tuple(sorted({name for name, _ in told if {(name, 0), (name, 1)} <= told}))


class Findings(nn.Module):
    """A linear layer from the pooled vector of any modality to the logits of the findings; gone after its round.

    Both ends of a pair are read by the same weights, so that what a report says of a finding points where the image
    shows it.
    """

    def __init__(self, names: Sequence[str], studies: Studies, width: int) -> None:
        super().__init__()
        self._names, self._studies = names, studies
        self.read = nn.Linear(width, len(names))
        nn.init.zeros_(self.read.weight)  # nothing is known at first
        nn.init.zeros_(self.read.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """``batch width`` of unit norm to logits ``batch finding``."""
        return self.read(_SCALE * pooled)

    def loss(self, pooled: Tensor, places: Sequence[int]) -> Tensor:
        """How well the pooled vectors of these studies tell their labels; a scalar."""
        return finding_loss(self(pooled), self._studies.labels(self._names, places).to(pooled.device))
