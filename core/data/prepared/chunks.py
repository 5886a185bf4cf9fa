"""A chunk of a modality (8 volumes, 64 pictures or 256 texts) is read once: its facts and its shard are written.

What a chunk holds follows from the manifest alone, so that the number of processes and interruptions change no byte.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from core.contract.build import build_part
from core.data.audit.file_facts import facts_of_file, facts_of_text
from core.data.fingerprint import content_hash_or_zero, encoded, file_fingerprint, text_fingerprint, time_hash
from core.data.prepared.file_versions import Version, read_versions, versions_path, write_versions
from core.data.prepared.manifest import relative
from core.data.prepared.samples import text_name
from core.data.prepared.settings import Settings, packages_digest
from core.data.prepared.shards import Entry, read_header, shard_path, write_shard
from core.errors import UserError
from core.io import atomic_write
from core.io.dicom.instance import shared_files
from core.io.npz_archive import SUFFIX
from core.types import DataFile, DataSpec, Record, Sample, path_on_disk

_ROWS, _BYTES = 256, 64 << 20  # files and canonical bytes of a chunk, whichever ends first
# A chunk is also full with a weight of 256, so that few volumes are read by many processes and a kill costs seconds.
_FULL, _FILE_WEIGHT, _VOLUME_WEIGHT = 256, 4, 32
_FLAT_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".txt", SUFFIX)
_built: dict[str, Any] = {}  # parts of this process, by their settings


@dataclass(frozen=True, kw_only=True)
class Row:
    """A file of a study, or a text of a table. ``taken``: training takes it."""

    name: str
    path: DataFile | None
    text: str | None
    patient: str
    study: str
    split: str
    taken: bool

    @property
    def weight(self) -> int:
        """Return about how long the row takes to read, by its name alone."""
        if self.path is None:
            return 1
        return _FILE_WEIGHT if path_on_disk(self.path).name.lower().endswith(_FLAT_SUFFIXES) else _VOLUME_WEIGHT

    @property
    def fingerprint(self) -> bytes:
        """Return what tells this version of the file or text from another."""
        return file_fingerprint(self.path) if self.path is not None else text_fingerprint(self.text or "")

    @property
    def time(self) -> int:
        """Return a hash of the time when the file was last written; 0 of a text."""
        return 0 if self.path is None else time_hash(self.path)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A task: the ``number``-th rows of a modality. Facts go to ``folder``, and samples too where ``keep``."""

    settings: Settings
    digest: str
    folder: Path
    number: int
    rows: tuple[Row, ...]
    keep: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How many files a chunk has, and whether they were read now or before."""

    modality: str
    number: int
    files: int
    read: bool


def iter_chunks(
    records: Iterable[Record], settings: Mapping[str, Settings], root: Path, folder: Path, *, keep: bool
) -> Iterator[Chunk]:
    """Yield all files of the chosen modalities in chunks; at most one unfinished chunk per modality is in memory."""
    waiting: dict[str, list[Row]] = {name: [] for name in settings}
    numbers, weights = dict.fromkeys(settings, 0), dict.fromkeys(settings, 0)
    limits = {name: _rows_per_chunk(setting.spec) for name, setting in settings.items()}

    def chunk(name: str) -> Chunk:
        rows, waiting[name], weights[name] = tuple(waiting[name]), [], 0
        numbers[name] += 1
        return Chunk(
            settings=settings[name],
            digest=settings[name].digest,
            folder=folder / name,
            number=numbers[name] - 1,
            rows=rows,
            keep=keep,
        )

    for record, name in ((record, name) for record in records for name in settings):
        for row in rows_of(record, name, root):
            waiting[name].append(row)
            weights[name] += row.weight
            if weights[name] >= _FULL or len(waiting[name]) >= limits[name]:
                yield chunk(name)
    for name in settings:
        if waiting[name]:
            yield chunk(name)


def rows_of(record: Record, modality: str, root: Path) -> Iterator[Row]:
    """Yield the files of a study, the one that training takes first; or its text."""
    if not record.has(modality):
        return
    study = {"patient": record.patient, "study": record.study, "split": record.split}
    if modality in record.texts:
        name = text_name(record.patient, record.study)
        yield Row(name=name, path=None, text=record.texts[modality], taken=True, **study)
        return
    for number, path in enumerate(record.files.get(modality, ())):
        yield Row(name=relative(path, root), path=path, text=None, taken=number == 0, **study)


def prepare_chunk(chunk: Chunk) -> Outcome:
    """Read what is not there yet. `UserError` where nothing can be written; a broken file is listed, not raised."""
    fingerprints, times = [row.fingerprint for row in chunk.rows], [row.time for row in chunk.rows]
    facts_file, shard = facts_path(chunk.folder, chunk.number), shard_path(chunk.folder, chunk.number)
    header = {"digest": chunk.digest, "key": _key(chunk, fingerprints)}
    complete = _has_facts(facts_file, header) and (not chunk.keep or read_header(shard) == header)
    fresh = complete and _are_same_versions(chunk, times)
    if not fresh:
        facts, entries, versions = list[dict[str, Any]](), list[Entry](), list[Version]()
        for row, fingerprint, time in zip(chunk.rows, fingerprints, times, strict=True):
            with shared_files():  # reader, audit and hash take the same bytes of a DICOM file
                row_facts, sample = _read(row, chunk)
                content = _content(row, row_facts, time)
            facts.append(row_facts)
            versions.append(Version(time, content, row.taken))
            if row.taken and chunk.keep:
                entries.append(Entry(name=row.name, fingerprint=fingerprint, path=row.path, sample=sample))
        if chunk.keep:
            write_shard(shard, entries, header)
        _write_facts(facts_file, header, facts)
        write_versions(versions_path(chunk.folder, chunk.number), versions)
    return Outcome(modality=chunk.settings.modality, number=chunk.number, files=len(chunk.rows), read=not fresh)


def facts_path(folder: Path, number: int) -> Path:
    """Return ``00007.jsonl`` in the folder."""
    return folder / f"{number:05d}.jsonl"


def read_facts(folder: Path, num: int) -> Iterator[Mapping[str, Any]]:
    """Yield the facts of the files of a modality, in their order; `UserError` where they cannot be read."""
    for number in range(num):
        path = facts_path(folder, number)
        try:
            with path.open(encoding="utf-8") as file:
                file.readline()
                for line in file:
                    yield json.loads(line)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); run core.prepare again") from error


def _write_facts(path: Path, header: Mapping[str, Any], facts: list[dict[str, Any]]) -> None:
    # What could not be read may be read once another decoder is installed.
    faults = {"packages": packages_digest()} if any("fault" in row for row in facts) else {}
    with atomic_write(path, overwrite=True) as temporary:
        lines = ({**header, **faults}, *facts)
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _has_facts(path: Path, header: Mapping[str, Any]) -> bool:
    """Return whether a chunk's facts have this header, and its faults are those of the packages that are installed."""
    try:
        with path.open(encoding="utf-8") as file:
            written = dict(json.loads(file.readline()))
    except (OSError, ValueError, TypeError):
        return False
    packages = written.pop("packages", None)
    return written == header and (packages is None or packages == packages_digest())


def _are_same_versions(chunk: Chunk, times: list[int]) -> bool:
    """Return whether every file is the version that was read; times that differ for no change are corrected."""
    path = versions_path(chunk.folder, chunk.number)
    versions = read_versions(path)
    if versions is None or len(versions) != len(times):
        return False
    if [version.time for version in versions] == times:
        return True
    if not all(version.is_of(row.path) for version, row in zip(versions, chunk.rows, strict=True)):
        return False
    write_versions(path, (replace(version, time=time) for version, time in zip(versions, times, strict=True)))
    return True


def _key(chunk: Chunk, fingerprints: list[bytes]) -> str:
    """Return a hash of the files of a chunk as they are now, and of whose they are."""
    digest = blake2b(chunk.digest.encode(), digest_size=16)
    for row, fingerprint in zip(chunk.rows, fingerprints, strict=True):
        digest.update(encoded(repr((row.name, row.patient, row.study, row.split, row.taken))) + fingerprint)
    return digest.hexdigest()


def _read(row: Row, chunk: Chunk) -> tuple[dict[str, Any], Sample | None]:
    """Return the facts of a file, and its canonical sample where training takes it and it can be read."""
    facts: dict[str, Any] = {
        "file": None if row.path is None else row.name,
        "patient": row.patient,
        "study": row.study,
        "split": row.split,
        "taken": row.taken,
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            sample = _original(row, chunk.settings)
            facts |= _facts(row, sample, chunk.settings.spec)
            canonical = _canonical(sample, chunk.settings) if row.taken else None
        except Exception as error:  # foreign bytes make readers fail in every way there is
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            fault = " ".join(_without_root(reason, row).split())
            return {**facts, "fault": fault, "missing": _is_missing(row.path)}, None
    if caught:
        facts["said"] = " ".join(_without_root(str(caught[0].message), row).split())
    if canonical is not None and canonical.meta.get("cut_tokens"):
        facts["cut"] = int(canonical.meta["cut_tokens"])
    return facts, canonical


def _original(row: Row, settings: Settings) -> Sample:
    """Return the file as its reader gives it; the text as its reader selects it."""
    if row.path is not None:
        return _part("reader", settings).read(row.path)
    text = row.text or ""
    select = None if settings.reader is None else getattr(_part("reader", settings), "select_sections", None)
    return Sample(modality=settings.modality, data=text if select is None else select(text, f"study '{row.study}'"))


def _facts(row: Row, sample: Sample, spec: DataSpec) -> dict[str, Any]:
    if row.path is not None:
        return facts_of_file(row.path, sample, spec)
    # The whole text is audited, whatever sections training reads.
    facts = facts_of_text(row.text or "")
    return {"content": facts["pixels"], **facts}


def _canonical(sample: Sample, settings: Settings) -> Sample:
    spec, canonical = settings.spec, _part("preprocess", settings).apply(sample)
    data = np.asarray(canonical.data)
    good = (
        data.ndim == 1 and data.dtype == np.int64
        if spec.kind == "tokens"
        else data.shape == (spec.channels, *spec.space) and data.dtype == np.float32
    )
    if not good:
        raise UserError(f"its canonical form is {data.dtype} {data.shape}, which the modality does not take")
    return canonical


def _part(name: str, settings: Settings) -> Any:
    key = f"{settings.digest} {name}"
    if key not in _built:
        config = getattr(settings, name)
        if config is None:
            raise UserError(f"modality '{settings.modality}' has no part '{name}' at this preset")
        _built[key] = build_part(config, f"{settings.modality}.{name}")
    return _built[key]


def _rows_per_chunk(spec: DataSpec) -> int:
    size = 4 * spec.channels * prod(spec.space)
    return max(1, min(_ROWS, _BYTES // max(1, size)))


def _content(row: Row, facts: Mapping[str, Any], time: int) -> int:
    """Return the hash of the content that was read; 1 where the file changed meanwhile, so that it is read again."""
    if row.path is None:
        return 0
    return 1 if row.time != time else facts.get("content") or content_hash_or_zero(row.path)


def _is_missing(path: DataFile | None) -> bool:
    try:
        return path is not None and not path_on_disk(path).exists()
    except OSError:  # closed to the user
        return False


def _without_root(reason: str, row: Row) -> str:
    """Return a reason without the folders above the data: the same wherever they lie."""
    return reason if row.path is None else reason.replace(str(row.path), row.name)
