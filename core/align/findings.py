"""What pooled vectors tell of findings: one reader for all modalities of a round (ours, docs/decisions/0017)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain, islice

from torch import Tensor, nn

from core.align.losses import finding_loss
from core.engine.seed import seeded
from core.preprocess.studies import Studies

_SCALE = 10.0  # of pooled vectors, which have unit norm: no large weights are needed to be sure

_TEXTS = 256  # that show what a reader knows

TextReader = Callable[[str], Mapping[str, int]]


def findings_that_differ(studies: Studies, places: Iterable[int]) -> tuple[str, ...]:
    """The labels that some of these studies have and others lack: what there is to tell."""
    told = {item for place in places for item in studies.records[place].labels.items()}
    return tuple(sorted({name for name, _ in told if {(name, 0), (name, 1)} <= told}))


class Findings(nn.Module):
    """A linear layer from the pooled vector of any modality to the logits of the findings; gone after its round.

    Both ends of a pair are read by the same weights, so that what a report says of a finding points where the image
    shows it. ``readers``: what reads the findings in a text of a data set, by its name; they stand in for labels where
    a study has none. Of a text that tells of any finding what it does not mention is absent, as far as the reader is
    seen to know it: a label "no finding" is told by no text.
    """

    def __init__(
        self, names: Sequence[str], studies: Studies, readers: Mapping[str, TextReader], width: int, seed: int
    ) -> None:
        super().__init__()
        self.names, self._studies, self._readers = names, studies, readers
        self._known_by: dict[str, frozenset[str]] = {}
        with seeded(seed, "findings"):
            self.read = nn.Linear(width, len(names))
        nn.init.zeros_(self.read.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """``batch width`` of unit norm to logits ``batch finding``."""
        return self.read(_SCALE * pooled)

    def loss(self, name: str, pooled: Tensor, places: Sequence[int]) -> Tensor:
        """How well the pooled vectors of one modality of these studies tell their labels, summed over the findings."""
        rows = [self._told(name, place) for place in places]
        labels = [[told.get(finding, float("nan")) for finding in self.names] for told in rows]
        return len(self.names) * finding_loss(self(pooled), pooled.new_tensor(labels))

    def alone(self, name: str, paired: Collection[int]) -> tuple[int, ...]:
        """The studies outside of the pairs that show a modality and whose findings are known.

        Patients of another round's pool are left to it.
        """
        records, taken = self._studies.records, set(paired)
        rest = (place for place in self._studies.having(name) if place not in taken and records[place].pool is None)
        return tuple(place for place in rest if records[place].labels or self._reader(name, place))

    def _told(self, name: str, place: int) -> Mapping[str, int]:
        record, reader = self._studies.records[place], self._reader(name, place)
        if record.labels or reader is None:
            return record.labels
        told = reader(record.texts[name])
        return {**dict.fromkeys(self._known(name, record.dataset), 0), **told} if told else {}

    def _known(self, name: str, dataset: str) -> frozenset[str]:
        """The findings that a reader finds in some texts of its data set, present or absent."""
        if dataset not in self._known_by:
            records = (record for record in self._studies.records if record.dataset == dataset)
            texts = (record.texts[name] for record in records if name in record.texts)
            found = [self._readers[dataset](text) for text in islice(texts, _TEXTS)]
            self._known_by[dataset] = frozenset(chain.from_iterable(found))
        return self._known_by[dataset]

    def _reader(self, name: str, place: int) -> TextReader | None:
        record = self._studies.records[place]
        return self._readers.get(record.dataset) if name in record.texts else None
