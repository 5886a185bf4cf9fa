"""The studies of a run in memory: canonical samples by modality, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import UserError
from core.modality import Parts
from core.preprocess.collate import collate
from core.types import Batch, Record, Sample


class Studies:
    """Records whose files are read and preprocessed on first use.

    ``visible`` gives, per record, the modalities that may be seen (disjoint pools hide the rest). Of several files of
    one modality in a study the first is used.
    """

    def __init__(
        self, records: Sequence[Record], visible: Sequence[tuple[str, ...]], parts: Mapping[str, Parts]
    ) -> None:
        self.records, self.visible, self.parts = records, visible, parts
        self._readers: dict[str, Any] = {}
        self._preprocessors: dict[str, Any] = {}
        self._samples: dict[tuple[str, int], Sample] = {}

    def having(self, *names: str) -> list[int]:
        """Places of the studies in which all of these modalities may be seen."""
        return [place for place, seen in enumerate(self.visible) if set(names) <= set(seen)]

    def require(self, *names: str) -> list[int]:
        """The same, and a `UserError` where there is none."""
        places = self.having(*names)
        if not places:
            what = " and ".join(names)
            raise UserError(
                f"no study to train on holds {what}: name data sets that do with --data, or change the flow"
            )
        return places

    def batch(self, name: str, places: Sequence[int]) -> Batch:
        """The canonical samples of one modality from these studies."""
        return collate([self.sample(name, place) for place in places], self.parts[name].data)

    def sample(self, name: str, place: int) -> Sample:
        """The canonical sample of one study."""
        if (name, place) not in self._samples:
            self._samples[name, place] = self._read(name, place)
        return self._samples[name, place]

    def _read(self, name: str, place: int) -> Sample:
        if name not in self._readers:
            declared = self.parts[name].declared()
            if "reader" not in declared or "preprocess" not in declared:
                raise UserError(f"modality '{name}' has no reader or no preprocessor at this preset")
            self._readers[name] = declared["reader"].build()
            self._preprocessors[name] = declared["preprocess"].build()
        path = self.records[place].files[name][0]
        return self._preprocessors[name].apply(self._readers[name].read(path))
