"""The samples that training takes of a prepared data set in place of its files."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core.data.fingerprint import file_fingerprint, text_fingerprint
from core.data.prepared.file_versions import is_version
from core.data.prepared.manifest import relative
from core.data.prepared.shards import INDEX, UNREADABLE, Index, Shard, shard_path
from core.errors import MedWeaveWarning, UserError
from core.types import Record, Sample

_OPEN = 64  # shards that are kept open


class PreparedSamples:
    """The canonical samples of one data set at one preset, read from disk one by one.

    ``digests``: how this run reads each modality; samples made otherwise are not used, and neither is the sample of a
    file that changed since. A warning for each modality reports both once.
    """

    def __init__(self, dataset: str, folder: Path, root: Path, digests: Mapping[str, str]) -> None:
        self.dataset, self.folder, self.root, self.digests = dataset, folder, root, digests
        self._indexes: dict[str, Index | None] = {}
        self._checked: dict[str, np.ndarray] = {}  # by modality, which rows were compared with their files
        self._shards: OrderedDict[tuple[str, int], Shard] = OrderedDict()
        self._warned: set[str] = set()

    def sample(self, modality: str, record: Record) -> Sample | None:
        """Return the sample of a study's first file, or of its text; ``None`` where it is not there or not fresh."""
        row = self._row(modality, record)
        index = self._index(modality)
        if row is None or index is None or index.indices[row] < 0:
            return None
        path = record.files[modality][0] if modality not in record.texts else None
        try:
            shard = self._shard(modality, int(index.shards[row]))
            sample, name, fingerprint = shard.sample(int(index.indices[row]), modality, path)
        except UserError as error:
            return self._warn(modality, str(error))
        except Exception as error:  # a shard that is cut short fails in every way there is
            return self._warn(modality, f"its shard cannot be read ({error})")
        same = name == name_in(record, modality, self.root) and fingerprint == index.fingerprints[row].tobytes()
        return sample if same and shard.digest == index.digest else self._warn(modality, "its shards were replaced")

    def has(self, modality: str) -> bool:
        """Return whether there are samples of a modality that are made as this run makes them."""
        return self._index(modality) is not None

    def refuses(self, modality: str, record: Record) -> bool:
        """Return whether the study's file could not be read when it was prepared, and is still the same."""
        index = self._index(modality)
        if index is None or not index.num_unreadable:
            return False
        row = index.row(name_in(record, modality, self.root))
        if row is None or index.indices[row] != UNREADABLE:
            return False
        return _is_unchanged(index, row, record, modality)

    def _row(self, modality: str, record: Record) -> int | None:
        """Return the row of a study in the index, once its file was found unchanged."""
        index = self._index(modality)
        if index is None:
            return None
        row = index.row(name_in(record, modality, self.root))
        if row is None:
            return self._warn(modality, f"study '{record.study}' is not among them")
        if not self._checked[modality][row]:
            if not _is_unchanged(index, row, record, modality):
                return self._warn(modality, f"study '{record.study}' has changed since")
            self._checked[modality][row] = True
        return row

    def _index(self, modality: str) -> Index | None:
        if modality not in self._indexes:
            self._indexes[modality] = index = self._fresh_index(modality)
            self._checked[modality] = np.zeros(0 if index is None else len(index.names), dtype=bool)
        return self._indexes[modality]

    def _fresh_index(self, modality: str) -> Index | None:
        folder = self.folder / modality
        if modality not in self.digests or not (folder / INDEX).is_file():
            return None
        try:
            index = Index(folder)
        except Exception as error:  # whatever lies there under this name
            return self._warn(modality, f"its index cannot be read ({error})")
        if index.digest != self.digests[modality]:
            return self._warn(
                modality,
                "they were prepared with other settings of its reader or preprocessing, or versions of packages",
            )
        return index

    def _shard(self, modality: str, number: int) -> Shard:
        key = (modality, number)
        if key not in self._shards:
            self._shards[key] = Shard(shard_path(self.folder / modality, number))
            if len(self._shards) > _OPEN:
                self._shards.popitem(last=False)
        self._shards.move_to_end(key)
        return self._shards[key]

    def _warn(self, modality: str, why: str) -> None:
        if modality not in self._warned:
            self._warned.add(modality)
            warnings.warn(
                MedWeaveWarning(
                    f"{self.folder}: prepared samples of '{modality}' are out of date: {' '.join(why.split())}; such"
                    f" files are read instead: run core.prepare {self.dataset} again"
                ),
                stacklevel=4,
            )


def name_in(record: Record, modality: str, root: Path) -> str:
    """Return what the manifest calls a study's first file, or its text."""
    if modality in record.texts:
        return text_name(record.patient, record.study)
    return relative(record.files[modality][0], root)


def text_name(patient: str, study: str) -> str:
    """Return the name of a text of a table, made of patient and study since it has no file. No path holds a NUL."""
    return f"{patient}\0{study}"


def fingerprint_in(record: Record, modality: str) -> bytes:
    """Return the fingerprint of a study's first file, or of its text."""
    text = record.texts.get(modality)
    return file_fingerprint(record.files[modality][0]) if text is None else text_fingerprint(text)


def _is_unchanged(index: Index, row: int, record: Record, modality: str) -> bool:
    """Return whether the study's first file, or its text, is what was read when it was prepared."""
    path = None if modality in record.texts else record.files[modality][0]
    same = index.fingerprints[row].tobytes() == fingerprint_in(record, modality)
    return same and is_version(path, int(index.times[row]), int(index.contents[row]))
