"""The studies of a run: canonical samples by modality, read once and held in memory, or read from prepared shards."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from copy import copy
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from core.contract.build import build_part
from core.contract.modality import PartConfig, Parts
from core.data.fingerprint import encoded, head_tail_bytes, time_hash
from core.data.prepared.samples import PreparedSamples
from core.engine.rng import make_generator
from core.errors import MedWeaveWarning, UserError
from core.preprocess.collate import collate
from core.preprocess.tokenizer import some_sentences
from core.types import Batch, Record, Sample

if TYPE_CHECKING:
    from torch import Generator, Tensor

ROWS = 64  # studies that go through a network at once


class Studies:
    """Records whose files are read and preprocessed on first use.

    ``visible`` gives, per record, the modalities that may be seen (disjoint pools hide the rest). Of several files of
    one modality in a study the first is used. ``collected``: data sets that are not computed, where a generated file is
    worth a warning. ``readers`` maps a data set and a modality to the reader that replaces
    that of the modality. ``prepared`` maps a data set to the samples that ``core.prepare`` left; they stay on disk, and
    memory does not grow with their number.
    """

    def __init__(
        self,
        records: Sequence[Record],
        visible: Sequence[tuple[str, ...]],
        parts: Mapping[str, Parts],
        readers: Mapping[tuple[str, str], PartConfig] | None = None,
        prepared: Mapping[str, PreparedSamples] | None = None,
        collected: Collection[str] = (),
    ) -> None:
        self.records, self.visible, self.parts, self.readers = records, visible, parts, dict(readers or {})
        self._built: dict[tuple[str, str], Any] = {}
        self._samples: dict[tuple[str, int], Sample] = {}
        self._prepared = dict(prepared or {})
        self._collected = set(collected)  # until one of their files was seen to be generated
        self._counted: set[tuple[str, int]] = set()  # prepared texts that were cut
        self.cut: dict[str, int] = {}  # by modality, how many texts were longer than the networks read

    def seen_as(self, records: Sequence[Record], visible: Sequence[tuple[str, ...]]) -> Studies:
        """Return the same studies with other modalities visible; what was read is shared with these."""
        other = copy(self)
        other.records, other.visible = records, visible
        return other

    def indices_with(self, *names: str) -> list[int]:
        """Return the indices of the studies in which all of these modalities may be seen."""
        return [index for index, seen in enumerate(self.visible) if set(names) <= set(seen)]

    def require_indices_with(self, *names: str, least: int = 1) -> list[int]:
        """Return the same; `UserError` where there are fewer than ``least``."""
        indices = self.indices_with(*names)
        if len(indices) < least:
            number = f"only {len(indices)} (of {least} at least)" if indices else "no"
            raise UserError(
                f"{number} study to train on holds {' and '.join(names)}: name data sets that do with --data, or change"
                " the flow"
            )
        return indices

    def batch(self, name: str, indices: Sequence[int]) -> Batch:
        """Return the canonical samples of one modality from these studies."""
        return collate([self.sample(name, index) for index in indices], self.parts[name].data)

    def batches(self, name: str, indices: Sequence[int]) -> Iterator[Batch]:
        """Yield the same in batches of at most `ROWS` studies, in their order: a large data set fits into memory."""
        return (self.batch(name, indices[start : start + ROWS]) for start in range(0, len(indices), ROWS))

    def augmented_batch(self, name: str, indices: Sequence[int], seed: int, *purpose: str | int) -> Batch:
        """Return each sample after a random augmentation (method E3), every sample with a separate generator."""
        augment = self._part(name, "augment")
        generators = (make_generator(seed, *purpose, name, index) for index in indices)
        views = [
            augment.view(self.sample(name, index), draws) for index, draws in zip(indices, generators, strict=True)
        ]
        return collate(views, self.parts[name].data)

    def shortened_batch(
        self, name: str, indices: Sequence[int], probability: float, seed: int, *purpose: str | int
    ) -> Batch:
        """Return texts of which each holds with this ``probability`` some of its sentences only (method E6d).

        Every text has a separate generator.
        """
        import torch

        texts = []
        for index in indices:
            draws = make_generator(seed, *purpose, name, index)
            chosen = float(torch.rand((), generator=draws)) < probability
            texts.append(self.shortened_sample(name, index, draws) if chosen else self.sample(name, index))
        return collate(texts, self.parts[name].data)

    def shortened_sample(self, name: str, index: int, draws: Generator) -> Sample:
        """Return some of the sentences of a study's text, of those that the networks read (method E6d)."""
        preprocess = self._part(name, "preprocess")
        text = str(preprocess.invert(self.sample(name, index)).data)
        return preprocess.apply(Sample(modality=name, data=some_sentences(text, draws)))

    def sample(self, name: str, index: int) -> Sample:
        """Return the canonical sample of one study."""
        if (name, index) in self._samples:
            return self._samples[name, index]
        sample = self._prepared_sample(name, index)
        if sample is None:
            sample = self._samples[name, index] = self._read_with_remedy(name, index)
        return sample

    def text(self, name: str, index: int) -> str:
        """Return the text of a study, as far as its reader selects it."""
        self._build(name, self.records[index])
        return str(self._original(name, index).data)

    def read_error(self, name: str, index: int) -> str:
        """Return why the file or text of a study cannot be read, empty where it can; nothing stays in memory.

        `UserError` where the modality has no part for it.
        """
        self._build(name, self.records[index])
        try:
            self._read(name, index)
        except UserError as error:
            return str(error)
        return ""

    def same_text_mask(self, names: Sequence[str], indices: Sequence[int], *, labels: bool = True) -> Tensor:
        """Return bool ``batch batch``: studies with the same text among ``names``, or the same labels (method E1).

        ``labels`` false: the same text alone. A study equals itself. Studies without any label are not equal for that.
        """
        import torch

        same = torch.eye(len(indices), dtype=torch.bool)
        for keys in self._group_keys(names, indices, labels):
            number = {key: position for position, key in enumerate(keys)}
            group = torch.tensor([-1 if key is None else number[key] for key in keys])
            same |= (group[:, None] == group) & (group >= 0)
        return same

    def similarity(self, names: Sequence[str], indices: Sequence[int], findings: Sequence[Mapping[str, int]]) -> Tensor:
        """Return float ``batch batch``: the cosine of the present findings of two studies; 1 where they share a text.

        ``findings`` maps the findings of each study to 1 present or 0 absent. Studies with nothing present are similar
        where the same findings are known absent in both: a finding that is not listed is unknown and does not count. A
        study without any known finding is similar to itself and to those with its text.
        """
        import torch
        import torch.nn.functional as F

        present = [{name for name, value in known.items() if value > 0} or {frozenset(known)} for known in findings]
        columns = {key: column for column, key in enumerate(dict.fromkeys(chain.from_iterable(present)))}
        rows = torch.zeros(len(indices), len(columns))
        for row, (known, keys) in enumerate(zip(findings, present, strict=True)):
            rows[row, [columns[key] for key in keys]] = float(bool(known))
        rows = F.normalize(rows, dim=1)
        return (rows @ rows.T).masked_fill(self.same_text_mask(names, indices, labels=False), 1.0)

    def fingerprint(self, name: str, *, times: bool = True) -> str:
        """Return a hash of the visible files of one modality: their names, sizes, first and last bytes.

        With ``times`` it changes too when a file is written again or copied.
        """
        digest = blake2b(digest_size=16)
        digest.update(repr([(key, reader) for key, reader in self.readers.items() if key[1] == name]).encode())
        for index in self.indices_with(name):
            record = self.records[index]
            digest.update(encoded(f"{record.patient}\0{record.study}\0"))
            if name in record.texts:
                digest.update(encoded(record.texts[name]))
            else:
                file = record.files[name][0]
                digest.update(head_tail_bytes(file))
                if times:
                    digest.update(time_hash(file).to_bytes(8, "big"))
        return digest.hexdigest()

    def _group_keys(
        self, names: Sequence[str], indices: Sequence[int], labels: bool
    ) -> Iterator[list[Hashable | None]]:
        """Yield a key for each study, once by every text and once by its labels; ``None`` where it has none."""
        for name in names:
            if self.parts[name].data.kind == "tokens":
                yield [np.asarray(self.sample(name, index).data).tobytes() for index in indices]
        if labels:
            yield [tuple(sorted(self.records[index].labels.items())) or None for index in indices]

    def _prepared_sample(self, name: str, index: int) -> Sample | None:
        """Return the prepared sample of a study, ``None`` where there is none that is fresh."""
        record = self.records[index]
        if record.dataset not in self._prepared:
            return None
        sample = self._prepared[record.dataset].sample(name, record)
        if sample is not None and sample.meta.get("cut_tokens") and (name, index) not in self._counted:
            self._counted.add((name, index))
            self._count_cut(name, record, sample)
        return sample

    def _read_with_remedy(self, name: str, index: int) -> Sample:
        """Read a study; an error names the remedy."""
        record = self.records[index]
        self._build(name, record)
        try:
            return self._read(name, index)
        except UserError as error:
            if not record.dataset:
                raise
            raise UserError(
                f"{error} (python -m core.prepare {record.dataset} lists all such files, and training leaves them out)"
            ) from error

    def _build(self, name: str, record: Record) -> None:
        """Build what reads a study; `UserError` where there is no such part, which is no fault of the file."""
        self._part(name, "preprocess")
        if name not in record.texts:
            self._reader(record.dataset, name)

    def _read(self, name: str, index: int) -> Sample:
        sample = self._part(name, "preprocess").apply(self._original(name, index))
        self._count_cut(name, self.records[index], sample)
        return sample

    def _original(self, name: str, index: int) -> Sample:
        """Return what a study holds of a modality, before it is made canonical."""
        record = self.records[index]
        if name in record.texts:
            return Sample(modality=name, data=self._selected_text(record, name))
        sample = self._reader(record.dataset, name).read(record.files[name][0])
        if sample.meta.get("synthetic") and record.dataset in self._collected:
            self._collected.discard(record.dataset)
            message = (
                f"data set '{record.dataset}': the {name} of study '{record.study}' says that it was generated, and so"
                " may others: figures that are measured on them are not of patients (core.prepare lists all)"
            )
            warnings.warn(MedWeaveWarning(message), stacklevel=2)
        return sample

    def _selected_text(self, record: Record, name: str) -> str:
        """Return what the reader selects of a text in a table, where it can select."""
        text = record.texts[name]
        if (record.dataset, name) not in self.readers and self.parts[name].reader is None:
            return text
        select = getattr(self._reader(record.dataset, name), "select_sections", None)
        return text if select is None else select(text, f"study '{record.study}'")

    def _count_cut(self, name: str, record: Record, sample: Sample) -> None:
        """Count a text that was cut, and warn of the first: the others are cut in the same way."""
        tokens = sample.meta.get("cut_tokens", 0)
        if not tokens:
            return
        self.cut[name] = self.cut.get(name, 0) + 1
        if self.cut[name] == 1:
            longer = f"study '{record.study}' is longer than the {self.parts[name].data.space[0]} ids of '{name}'"
            warnings.warn(
                MedWeaveWarning(
                    f"{longer}: {tokens} are cut, and so of every longer text; take a larger preset, or sections of"
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
