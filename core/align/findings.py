"""What pooled vectors tell of findings: one reader for all modalities of a round (ours, docs/decisions/0017).

What the studies of a round tell of findings, by label and by report (ours, docs/decisions/0017).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, islice

from torch import Tensor, nn

from core.align.losses import finding_loss
from core.data.studies import Studies
from core.engine.rng import forked_rng
from core.errors import UserError

_TEXTS = 256  # that show what a reader knows

FindingExtractor = Callable[[str], Mapping[str, int]]


class StudyFindings:
    """Findings by study, with details such as side and grade: 1 present, 0 absent, missing where nobody can tell.

    ``texts``: the modalities of the round that are texts; those of other rounds are not looked at. ``findings`` and
    ``details`` read a text of a data set, by its name (see `core.contract.modality.DatasetAdapter`). Findings are
    the labels of a study, or what its text tells where it has none; of a text that tells of any finding, what it does not mention is
    absent, as far as the reader is seen to know it: a label "no finding" is told by no text. Details come from its
    text; an absent finding has none of them.
    """

    def __init__(
        self,
        studies: Studies,
        texts: Sequence[str] = (),
        findings: Mapping[str, FindingExtractor] | None = None,
        details: Mapping[str, FindingExtractor] | None = None,
    ) -> None:
        self._studies, self._texts = studies, texts
        self._finding_readers, self._detail_readers = findings or {}, details or {}
        # Reports are read once: by place, and what a data set's reader knows.
        self._findings, self._details = cache(self._findings_of), cache(self._details_of)
        self._known = cache(self._known_to)

    def all_of(self, index: int) -> dict[str, int]:
        """The findings of a study, and the details of those that are not absent, as ``FINDING/DETAIL``."""
        findings = self._findings(index)
        details = {name: value for name, value in self._details(index).items() if findings.get(_finding(name)) != 0}
        return {**details, **findings}

    def of(self, index: int, names: Iterable[str]) -> dict[str, int]:
        """What is known of these findings and details; a finding that is absent has no detail."""
        known = self.all_of(index)
        absent = {name: 0 for name in names if known.get(_finding(name)) == 0}
        return {name: known[name] for name in names if name in known} | absent

    def differing(self, indices: Iterable[int]) -> tuple[str, ...]:
        """The findings that some of these studies have and others lack, and the details that some findings have.

        A detail that comes with its finding always or never tells nothing more.
        """
        told = {item for index in indices for item in self.all_of(index).items()}
        return tuple(sorted({name for name, _ in told if {(name, 0), (name, 1)} <= told}))

    def alone(self, name: str, paired: Collection[int]) -> tuple[int, ...]:
        """The studies outside of the pairs that show a modality and whose findings are known.

        Patients of another round's pool are left to it.
        """
        records, taken = self._studies.records, set(paired)
        rest = (
            index for index in self._studies.indices_with(name) if index not in taken and records[index].pool is None
        )
        return tuple(index for index in rest if records[index].labels or self._can_read(index))

    def _can_read(self, index: int) -> bool:
        return self._studies.records[index].dataset in self._finding_readers and bool(self._texts_of(index))

    def _texts_of(self, index: int) -> list[str]:
        return [name for name in self._texts if name in self._studies.visible[index]]

    def _read(self, index: int, readers: Mapping[str, FindingExtractor]) -> dict[str, int]:
        """What a reader finds in the texts of a study; where they differ the first one counts."""
        read = readers.get(self._studies.records[index].dataset)
        if read is None:
            return {}
        found: dict[str, int] = {}
        for name in reversed(self._texts_of(index)):
            found |= read(self._studies.text(name, index))
        return found

    def _findings_of(self, index: int) -> Mapping[str, int]:
        record = self._studies.records[index]
        if record.labels:
            return record.labels
        told = self._read(index, self._finding_readers)
        return dict.fromkeys(self._known(record.dataset), 0) | told if told else {}

    def _details_of(self, index: int) -> Mapping[str, int]:
        found = self._read(index, self._detail_readers)
        if wrong := [name for name in found if _finding(name) == name]:
            whose = f"data set '{self._studies.records[index].dataset}': details_of"
            raise UserError(f"{whose} tells '{wrong[0]}', which names no finding; name it FINDING/DETAIL")
        return found

    def _known_to(self, dataset: str) -> frozenset[str]:
        """The findings that a reader finds in some texts of its data set, present or absent."""
        of = (index for index, record in enumerate(self._studies.records) if record.dataset == dataset)
        some = islice((index for index in of if self._texts_of(index)), _TEXTS)
        return frozenset(chain.from_iterable(self._read(index, self._finding_readers) for index in some))


def _finding(name: str) -> str:
    """The finding that a detail is of; a finding is its own."""
    return name.partition("/")[0]


_SCALE = 10.0  # of pooled vectors, which have unit norm: no large weights are needed to be sure


class FindingProbe(nn.Module):
    """A linear layer from the pooled vector of any modality to the logits of the findings; gone after its round.

    Both ends of a pair are read by the same weights, so that what a report says of a finding points where the image
    shows it. ``names``: findings, and details of them such as side and grade.
    """

    def __init__(self, names: Sequence[str], told: StudyFindings, width: int, seed: int) -> None:
        super().__init__()
        self.names, self._told = names, told
        with forked_rng(seed, "findings"):
            self.read = nn.Linear(width, len(names))
        nn.init.zeros_(self.read.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """``batch width`` of unit norm to logits ``batch finding``."""
        return self.read(_SCALE * pooled)

    def loss(self, pooled: Tensor, indices: Sequence[int]) -> Tensor:
        """How well the pooled vectors of one modality of these studies tell what is known, summed over the findings."""
        rows = [self._told.of(index, self.names) for index in indices]
        labels = [[told.get(name, float("nan")) for name in self.names] for told in rows]
        return len(self.names) * finding_loss(self(pooled), pooled.new_tensor(labels))
