"""Findings in alignment: what labels and reports say of each study, and a linear probe that learns it.

The supervision of pooled vectors by findings is our addition (docs/decisions/0017).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, islice

import torch.nn.functional as F
from torch import Tensor, nn

from core.data.studies import Studies
from core.engine.rng import forked_rng
from core.errors import UserError

_TEXTS = 256  # read to learn which findings an extractor knows
_SCALE = 10.0  # of pooled vectors, which have unit norm: the probe needs no large weights to be certain

FindingExtractor = Callable[[str], Mapping[str, int]]


def finding_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy, the mean over the known labels; 0 where none is known.

    It trains the finding probe of alignment (method E1; ours, docs/decisions/0017) and the finding classifiers of
    evaluation. Both are ``batch finding``; a label is 1 present, 0 absent, NaN unknown.
    """
    known = ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.0).to(logits), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


class FindingProbe(nn.Module):
    """A linear layer from the pooled vector of any modality to the logits of the findings; dropped after its round.

    Both ends of a pair are probed with the same weights, so that a report's statement of a finding and its appearance
    in the image point the same way. ``names``: findings, and details of them such as side and grade.
    """

    def __init__(
        self, names: Sequence[str], studies: StudyFindings, width: int, seed: int, round_name: str = ""
    ) -> None:
        super().__init__()
        self.names, self._studies = names, studies
        # Every round starts at directions of its own: at common ones, rounds would agree by their draw.
        with forked_rng(seed, "findings", round_name):
            self.read = nn.Linear(width, len(names))
        nn.init.zeros_(self.read.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map ``batch width`` of unit norm to logits ``batch finding``."""
        return self.read(_SCALE * pooled)

    def loss(self, pooled: Tensor, indices: Sequence[int]) -> Tensor:
        """Return the `finding_loss` of one modality's pooled vectors of these studies, summed over the findings."""
        rows = [self._studies.known(index, self.names) for index in indices]
        labels = [[row.get(name, float("nan")) for name in self.names] for row in rows]
        return len(self.names) * finding_loss(self(pooled), pooled.new_tensor(labels))


class StudyFindings:
    """Findings by study, with details such as side and grade: 1 present, 0 absent, missing where unknown.

    ``texts``: the text modalities of the round; those of other rounds are not read. ``findings`` and ``details``
    extract from a text of a data set, by its name (see `core.contract.modality.DatasetAdapter`).

    The findings of a study are its labels or, where it has none, those extracted from its text. A finding that a text
    does not mention counts as absent if the text mentions any finding and the extractor is seen to know this one: no
    text mentions the label "no finding". Details come from the text; an absent finding has none of them.
    """

    def __init__(
        self,
        studies: Studies,
        texts: Sequence[str] = (),
        findings: Mapping[str, FindingExtractor] | None = None,
        details: Mapping[str, FindingExtractor] | None = None,
    ) -> None:
        self._studies, self._texts = studies, texts
        self._finding_extractors, self._detail_extractors = findings or {}, details or {}
        # Reports are read once: by study, and to learn what a data set's extractor knows.
        self._findings, self._details = cache(self._findings_of), cache(self._details_of)
        self._vocabulary = cache(self._vocabulary_of)

    def all_of(self, index: int) -> dict[str, int]:
        """Return the findings of a study, and the details of those that are not absent, as ``FINDING/DETAIL``."""
        findings = self._findings(index)
        details = {name: value for name, value in self._details(index).items() if findings.get(_finding(name)) != 0}
        return {**details, **findings}

    def known(self, index: int, names: Iterable[str]) -> dict[str, int]:
        """Return what is known of these findings and details; an absent finding makes its details absent."""
        known = self.all_of(index)
        absent = {name: 0 for name in names if known.get(_finding(name)) == 0}
        return {name: known[name] for name in names if name in known} | absent

    def differing(self, indices: Iterable[int]) -> tuple[str, ...]:
        """Return the findings, and details of findings, that some of these studies have and others lack.

        A detail that always or never comes with its finding carries no further information.
        """
        known = {item for index in indices for item in self.all_of(index).items()}
        return tuple(sorted({name for name, _ in known if {(name, 0), (name, 1)} <= known}))

    def unpaired(self, name: str, paired: Collection[int]) -> tuple[int, ...]:
        """Return the studies outside of the pairs that show a modality and whose findings are known.

        Patients of another round's pool are left to that round.
        """
        records, excluded = self._studies.records, set(paired)
        rest = (
            index for index in self._studies.indices_with(name) if index not in excluded and records[index].pool is None
        )
        return tuple(index for index in rest if records[index].labels or self._can_extract(index))

    def _can_extract(self, index: int) -> bool:
        return self._studies.records[index].dataset in self._finding_extractors and bool(self._texts_of(index))

    def _texts_of(self, index: int) -> list[str]:
        return [name for name in self._texts if name in self._studies.visible[index]]

    def _extract(self, index: int, extractors: Mapping[str, FindingExtractor]) -> dict[str, int]:
        """Return what is extracted from the texts of a study; where they contradict each other the first one counts."""
        extract = extractors.get(self._studies.records[index].dataset)
        if extract is None:
            return {}
        findings: dict[str, int] = {}
        for name in reversed(self._texts_of(index)):
            findings |= extract(self._studies.text(name, index))
        return findings

    def _findings_of(self, index: int) -> Mapping[str, int]:
        record = self._studies.records[index]
        if record.labels:
            return record.labels
        mentioned = self._extract(index, self._finding_extractors)
        return dict.fromkeys(self._vocabulary(record.dataset), 0) | mentioned if mentioned else {}

    def _details_of(self, index: int) -> Mapping[str, int]:
        details = self._extract(index, self._detail_extractors)
        if wrong := [name for name in details if _finding(name) == name]:
            source = f"data set '{self._studies.records[index].dataset}': details_of"
            raise UserError(f"{source} returns '{wrong[0]}', which names no finding; name it FINDING/DETAIL")
        return details

    def _vocabulary_of(self, dataset: str) -> frozenset[str]:
        """Return the findings that an extractor reports on some texts of its data set, present or absent."""
        of_dataset = (index for index, record in enumerate(self._studies.records) if record.dataset == dataset)
        sample = islice((index for index in of_dataset if self._texts_of(index)), _TEXTS)
        return frozenset(chain.from_iterable(self._extract(index, self._finding_extractors) for index in sample))


def _finding(name: str) -> str:
    """Return the finding that a detail belongs to; a finding belongs to itself."""
    return name.partition("/")[0]
