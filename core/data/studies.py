"""The studies of a run: canonical samples by modality, read once and kept, or taken from where they were prepared."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from core.contract.build import build_part
from core.contract.modality import PartConfig, Parts
from core.data.fingerprint import head_tail_bytes, encoded, time_hash
from core.data.prepared.samples import PreparedSamples
from core.engine.rng import make_generator
from core.errors import MedWeaveWarning, UserError
from core.preprocess.collate import collate
from core.types import Batch, Record, Sample

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 64  # studies that go through a network at once


class Studies:
    """Records whose files are read and preprocessed on first use.

    ``visible`` gives, per record, the modalities that may be seen (disjoint pools hide the rest). Of several files of
    one modality in a study the first is used. ``readers``: those of a data set, by its name and the modality, in place
    of the modality's own. ``prepared``: the samples of a data set that ``core.prepare`` left, by its name; they stay on
    disk, and memory does not grow with their number.
    """

    def __init__(
        self,
        records: Sequence[Record],
        visible: Sequence[tuple[str, ...]],
        parts: Mapping[str, Parts],
        readers: Mapping[tuple[str, str], PartConfig] | None = None,
        prepared: Mapping[str, PreparedSamples] | None = None,
    ) -> None:
        self.records, self.visible, self.parts, self.readers = records, visible, parts, dict(readers or {})
        self._built: dict[tuple[str, str], Any] = {}
        self._samples: dict[tuple[str, int], Sample] = {}
        self._prepared = dict(prepared or {})
        self._counted: set[tuple[str, int]] = set()  # prepared texts that were cut
        self.cut: dict[str, int] = {}  # by modality, how many texts were longer than the networks read

    def indices_with(self, *names: str) -> list[int]:
        """Places of the studies in which all of these modalities may be seen."""
        return [place for place, seen in enumerate(self.visible) if set(names) <= set(seen)]

    def require_indices_with(self, *names: str, least: int = 1) -> list[int]:
        """The same, and a `UserError` where there are fewer than ``least``."""
        places = self.indices_with(*names)
        if len(places) < least:
            found = f"only {len(places)} (of {least} at least)" if places else "no"
            raise UserError(
                f"{found} study to train on holds {' and '.join(names)}: name data sets that do with --data, or change"
                " the flow"
            )
        return places

    def batch(self, name: str, places: Sequence[int]) -> Batch:
        """The canonical samples of one modality from these studies."""
        return collate([self.sample(name, place) for place in places], self.parts[name].data)

    def batches(self, name: str, places: Sequence[int]) -> Iterator[Batch]:
        """The same, in batches of at most `ROWS` studies in their order: however many there are, memory holds them."""
        return (self.batch(name, places[start : start + ROWS]) for start in range(0, len(places), ROWS))

    def augmented_batch(self, name: str, places: Sequence[int], seed: int, *purpose: str | int) -> Batch:
        """A random view of each sample (METHOD E3), each drawn from a stream of its own."""
        augment = self._part(name, "augment")
        generators = (make_generator(seed, *purpose, name, place) for place in places)
        views = [augment.view(self.sample(name, place), draws) for place, draws in zip(places, generators, strict=True)]
        return collate(views, self.parts[name].data)

    def sample(self, name: str, place: int) -> Sample:
        """The canonical sample of one study."""
        if (name, place) in self._samples:
            return self._samples[name, place]
        found = self._taken(name, place)
        if found is None:
            found = self._samples[name, place] = self._read_or_told(name, place)
        return found

    def text(self, name: str, place: int) -> str:
        """What a study says in a modality of texts, as far as its reader keeps it."""
        self._build(name, self.records[place])
        return str(self._kept_of(name, place).data)

    def read_error(self, name: str, place: int) -> str:
        """Why the file or text of a study cannot be read, empty where it can; nothing is kept.

        `UserError` where the modality has no part for it.
        """
        self._build(name, self.records[place])
        try:
            self._read(name, place)
        except UserError as error:
            return str(error)
        return ""

    def same_text_mask(self, names: Sequence[str], places: Sequence[int], *, labels: bool = True) -> Tensor:
        """Bool ``batch batch``: studies with the same text among ``names``, or with the same labels (METHOD E1).

        ``labels`` false: the same text alone. A study equals itself. Studies without any label are not equal for that.
        """
        import torch

        same = torch.eye(len(places), dtype=torch.bool)
        for said in self._said(names, places, labels):
            number = {what: index for index, what in enumerate(said)}
            group = torch.tensor([-1 if what is None else number[what] for what in said])
            same |= (group[:, None] == group) & (group >= 0)
        return same

    def similarity(self, names: Sequence[str], places: Sequence[int], told: Sequence[Mapping[str, int]]) -> Tensor:
        """Float ``batch batch``: cosine of what is told present of two studies; 1 where they share a text.

        ``told``: of each study findings to 1 present or 0 absent. Studies with nothing present are similar where the
        same findings are known absent in both: what is not told is unknown, and speaks for nothing. A study of which
        nothing is told is similar to itself and to those with its text.
        """
        import torch
        import torch.nn.functional as F

        present = [{name for name, value in own.items() if value > 0} or {frozenset(own)} for own in told]
        columns = {what: index for index, what in enumerate(dict.fromkeys(chain.from_iterable(present)))}
        rows = torch.zeros(len(places), len(columns))
        for row, (own, said) in enumerate(zip(told, present, strict=True)):
            rows[row, [columns[what] for what in said]] = float(bool(own))
        rows = F.normalize(rows, dim=1)
        return (rows @ rows.T).masked_fill(self.same_text_mask(names, places, labels=False), 1.0)

    def fingerprint(self, name: str) -> str:
        """A name for the files of one modality that may be seen: their names, sizes, times, first and last bytes."""
        digest = blake2b(digest_size=16)
        digest.update(repr([(key, reader) for key, reader in self.readers.items() if key[1] == name]).encode())
        for place in self.indices_with(name):
            record = self.records[place]
            digest.update(encoded(f"{record.patient}\0{record.study}\0"))
            if name in record.texts:
                digest.update(encoded(record.texts[name]))
            else:
                path = record.files[name][0]
                digest.update(head_tail_bytes(path) + time_hash(path).to_bytes(8, "big"))
        return digest.hexdigest()

    def _said(self, names: Sequence[str], places: Sequence[int], labels: bool) -> Iterator[list[Hashable | None]]:
        """What each study says, once by every text and once by its labels; ``None`` where it has none."""
        for name in names:
            if self.parts[name].data.kind == "tokens":
                yield [np.asarray(self.sample(name, place).data).tobytes() for place in places]
        if labels:
            yield [tuple(sorted(self.records[place].labels.items())) or None for place in places]

    def _taken(self, name: str, place: int) -> Sample | None:
        """The prepared sample of a study, ``None`` where there is none that is fresh."""
        record = self.records[place]
        if record.dataset not in self._prepared:
            return None
        found = self._prepared[record.dataset].sample(name, record)
        if found is not None and found.meta.get("cut_tokens") and (name, place) not in self._counted:
            self._counted.add((name, place))
            self._count_cut(name, record, found)
        return found

    def _read_or_told(self, name: str, place: int) -> Sample:
        """Read a study; an error says what to do about such files."""
        record = self.records[place]
        self._build(name, record)
        try:
            return self._read(name, place)
        except UserError as error:
            if not record.dataset:
                raise
            raise UserError(
                f"{error} (python -m core.prepare {record.dataset} lists all such files, and training leaves them out)"
            ) from error

    def _build(self, name: str, record: Record) -> None:
        """Make what reads a study; `UserError` where there is no such part, which is no fault of the file."""
        self._part(name, "preprocess")
        if name not in record.texts:
            self._reader(record.dataset, name)

    def _read(self, name: str, place: int) -> Sample:
        found = self._part(name, "preprocess").apply(self._kept_of(name, place))
        self._count_cut(name, self.records[place], found)
        return found

    def _kept_of(self, name: str, place: int) -> Sample:
        """What a study holds of a modality, before it is made canonical."""
        record = self.records[place]
        if name in record.texts:
            return Sample(modality=name, data=self._kept(record, name))
        return self._reader(record.dataset, name).read(record.files[name][0])

    def _kept(self, record: Record, name: str) -> str:
        """What the reader keeps of a text that stands in a table, where it has such a choice."""
        text = record.texts[name]
        if (record.dataset, name) not in self.readers and self.parts[name].reader is None:
            return text
        kept = getattr(self._reader(record.dataset, name), "kept", None)
        return text if kept is None else kept(text, f"study '{record.study}'")

    def _count_cut(self, name: str, record: Record, sample: Sample) -> None:
        """Count a text that was cut, and say so of the first: the others are cut in the same way."""
        tokens = sample.meta.get("cut_tokens", 0)
        if not tokens:
            return
        self.cut[name] = self.cut.get(name, 0) + 1
        if self.cut[name] == 1:
            what = f"study '{record.study}' is longer than the {self.parts[name].data.space[0]} ids of '{name}'"
            warnings.warn(
                MedWeaveWarning(
                    f"{what}: {tokens} are cut, and so of every longer text; take a larger preset, or sections of"
                    f" reports ({name}.reader.sections)"
                ),
                stacklevel=2,
            )

    def _reader(self, dataset: str, name: str) -> Any:
        if (dataset, name) not in self.readers:
            return self._part(name, "reader")
        key = (f"{dataset}: {name}", "reader")
        if key not in self._built:
            self._built[key] = build_part(self.readers[dataset, name], f"datasets.{dataset}.reader.{name}")
        return self._built[key]

    def _part(self, name: str, part: str) -> Any:
        if (name, part) not in self._built:
            declared = self.parts[name].declared()
            if part not in declared:
                raise UserError(f"modality '{name}' has no part '{part}' at this preset; choose another preset")
            self._built[name, part] = build_part(declared[part], f"{name}.{part}")
        return self._built[name, part]
