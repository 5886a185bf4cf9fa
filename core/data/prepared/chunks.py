"""A portion of a modality, 8 volumes, 64 pictures or 256 texts: read once, told of in JSON lines, kept in a shard.

What a portion holds follows from the manifest alone, so that the number of processes and kills change no byte.
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
from core.data.prepared.shards import Entry, about, shard_path, write_shard
from core.errors import UserError
from core.io import atomic_write
from core.io.npz_archive import SUFFIX
from core.types import DataFile, DataSpec, Record, Sample, path_on_disk

_ROWS, _BYTES = 256, 64 << 20  # files and canonical bytes of a portion, whichever ends first
# A portion is also full with 256 of these: so that few volumes are read by many processes, and a kill costs seconds.
_FULL, _OF_A_FILE, _OF_A_VOLUME = 256, 4, 32
_FLAT = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".txt", SUFFIX)
_built: dict[str, Any] = {}  # parts of this process, by their settings


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file, or one text of a table, of a study."""

    name: str
    path: DataFile | None
    text: str | None
    patient: str
    study: str
    split: str
    taken: bool

    @property
    def weight(self) -> int:
        """About how long it takes, by its name alone."""
        if self.path is None:
            return 1
        return _OF_A_FILE if path_on_disk(self.path).name.lower().endswith(_FLAT) else _OF_A_VOLUME

    @property
    def stamp(self) -> bytes:
        """What tells this version of it from another."""
        return file_fingerprint(self.path) if self.path is not None else text_fingerprint(self.text or "")

    @property
    def time(self) -> int:
        """When it was last written; 0 of a text."""
        return 0 if self.path is None else time_hash(self.path)


@dataclass(frozen=True, kw_only=True)
class Portion:
    """A task: the ``number``-th rows of a modality, to be told of in ``folder``, and kept there where ``keep``."""

    settings: Settings
    digest: str
    folder: Path
    number: int
    rows: tuple[Row, ...]
    keep: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How many files a portion has, and whether they were read now or before."""

    modality: str
    number: int
    files: int
    read: bool


def facts_path(folder: Path, number: int) -> Path:
    """``00007.jsonl``"""
    return folder / f"{number:05d}.jsonl"


def rows_of(record: Record, modality: str, root: Path) -> Iterator[Row]:
    """The files of a study, the one that training takes first; or its text."""
    if not record.has(modality):
        return
    own = {"patient": record.patient, "study": record.study, "split": record.split}
    if modality in record.texts:
        yield Row(
            name=text_name(record.patient, record.study), path=None, text=record.texts[modality], taken=True, **own
        )
        return
    for place, path in enumerate(record.files.get(modality, ())):
        yield Row(name=relative(path, root), path=path, text=None, taken=place == 0, **own)


def portions_of(
    records: Iterable[Record], settings: Mapping[str, Settings], root: Path, folder: Path, *, keep: bool
) -> Iterator[Portion]:
    """All files of the chosen modalities, in portions; at most one unfinished portion per modality is held."""
    waiting: dict[str, list[Row]] = {name: [] for name in settings}
    numbers, weights = dict.fromkeys(settings, 0), dict.fromkeys(settings, 0)
    most = {name: _rows_in_a_portion(one.spec) for name, one in settings.items()}

    def portion(name: str) -> Portion:
        rows, waiting[name], weights[name] = tuple(waiting[name]), [], 0
        numbers[name] += 1
        return Portion(
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
            if weights[name] >= _FULL or len(waiting[name]) >= most[name]:
                yield portion(name)
    for name in settings:
        if waiting[name]:
            yield portion(name)


def prepare_portion(portion: Portion) -> Outcome:
    """Read what is not there yet. `UserError` where nothing can be written; a broken file is told of, not raised."""
    stamps, times = [row.stamp for row in portion.rows], [row.time for row in portion.rows]
    told, kept = facts_path(portion.folder, portion.number), shard_path(portion.folder, portion.number)
    key = _key(portion, stamps)
    header = {"digest": portion.digest, "key": key}
    there = _is_told(told, header) and (not portion.keep or about(kept) == header) and _is_seen(portion, times)
    if not there:
        facts, entries, versions = list[dict[str, Any]](), list[Entry](), list[Version]()
        for row, stamp, time in zip(portion.rows, stamps, times, strict=True):
            found, sample = _read(row, portion)
            facts.append(found)
            versions.append(Version(time, _content(row, found, time), row.taken))
            if row.taken and portion.keep:
                entries.append(Entry(name=row.name, stamp=stamp, path=row.path, sample=sample))
        if portion.keep:
            write_shard(kept, entries, header)
        # What could not be read may be read once another decoder is installed.
        faults = {"packages": packages_digest()} if any("fault" in found for found in facts) else {}
        lines = ({**header, **faults}, *facts)
        with atomic_write(told, overwrite=True) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        write_versions(versions_path(portion.folder, portion.number), versions)
    return Outcome(modality=portion.settings.modality, number=portion.number, files=len(portion.rows), read=not there)


def told_of(folder: Path, num: int) -> Iterator[Mapping[str, Any]]:
    """What was found of the files of a modality, in their order."""
    for number in range(num):
        path = facts_path(folder, number)
        try:
            with path.open(encoding="utf-8") as file:
                file.readline()
                for line in file:
                    yield json.loads(line)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); run core.prepare again") from error


def _read(row: Row, portion: Portion) -> tuple[dict[str, Any], Sample | None]:
    """What the audit keeps of a file, and its canonical sample where it is wanted and can be had."""
    found: dict[str, Any] = {
        "file": None if row.path is None else row.name,
        "patient": row.patient,
        "study": row.study,
        "split": row.split,
        "taken": row.taken,
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            sample = _original(row, portion.settings)
            found |= _facts(row, sample, portion.settings.spec)
            canonical = _canonical(sample, portion.settings) if row.taken else None
        except Exception as error:  # foreign bytes make readers fail in every way there is
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            return {**found, "fault": " ".join(_shown(reason, row).split()), "missing": _is_missing(row.path)}, None
    if caught:
        found["said"] = " ".join(_shown(str(caught[0].message), row).split())
    if canonical is not None and canonical.meta.get("cut_tokens"):
        found["cut"] = int(canonical.meta["cut_tokens"])
    return found, canonical


def _original(row: Row, settings: Settings) -> Sample:
    """The file as its reader gives it; the text as its reader keeps it."""
    if row.path is not None:
        return _part("reader", settings).read(row.path)
    text = row.text or ""
    kept = None if settings.reader is None else getattr(_part("reader", settings), "kept", None)
    return Sample(modality=settings.modality, data=text if kept is None else kept(text, f"study '{row.study}'"))


def _facts(row: Row, sample: Sample, spec: DataSpec) -> dict[str, Any]:
    if row.path is not None:
        return facts_of_file(row.path, sample, spec)
    # The whole text is audited, whatever sections training reads.
    facts = facts_of_text(row.text or "")
    return {"content": facts["pixels"], **facts}


def _canonical(sample: Sample, settings: Settings) -> Sample:
    spec, found = settings.spec, _part("preprocess", settings).apply(sample)
    data = np.asarray(found.data)
    good = (
        data.ndim == 1 and data.dtype == np.int64
        if spec.kind == "tokens"
        else data.shape == (spec.channels, *spec.space) and data.dtype == np.float32
    )
    if not good:
        raise UserError(f"its canonical form is {data.dtype} {data.shape}, which the modality does not take")
    return found


def _part(name: str, settings: Settings) -> Any:
    key = f"{settings.digest} {name}"
    if key not in _built:
        config = getattr(settings, name)
        if config is None:
            raise UserError(f"modality '{settings.modality}' has no part '{name}' at this preset")
        _built[key] = build_part(config, f"{settings.modality}.{name}")
    return _built[key]


def _rows_in_a_portion(spec: DataSpec) -> int:
    size = 4 * spec.channels * prod(spec.space)
    return max(1, min(_ROWS, _BYTES // max(1, size)))


def _key(portion: Portion, stamps: list[bytes]) -> str:
    """A name for the files of a portion as they are now, and for whose they are."""
    digest = blake2b(portion.digest.encode(), digest_size=16)
    for row, stamp in zip(portion.rows, stamps, strict=True):
        digest.update(encoded(repr((row.name, row.patient, row.study, row.split, row.taken))) + stamp)
    return digest.hexdigest()


def _is_told(path: Path, header: Mapping[str, Any]) -> bool:
    """Whether a portion's facts are those of this header, and its faults those of the packages that are installed."""
    try:
        with path.open(encoding="utf-8") as file:
            found = dict(json.loads(file.readline()))
    except (OSError, ValueError, TypeError):
        return False
    packages = found.pop("packages", None)
    return found == header and (packages is None or packages == packages_digest())


def _is_seen(portion: Portion, times: list[int]) -> bool:
    """Whether every file is the version that was read; times that differ for no change are corrected."""
    path = versions_path(portion.folder, portion.number)
    versions = read_versions(path)
    if versions is None or len(versions) != len(times):
        return False
    if [one.time for one in versions] == times:
        return True
    if not all(one.is_of(row.path) for one, row in zip(versions, portion.rows, strict=True)):
        return False
    write_versions(path, (replace(one, time=time) for one, time in zip(versions, times, strict=True)))
    return True


def _content(row: Row, found: Mapping[str, Any], time: int) -> int:
    """The content that was read; 1 where the file was written meanwhile, which is read again the next time."""
    if row.path is None:
        return 0
    return 1 if row.time != time else found.get("content") or content_hash_or_zero(row.path)


def _is_missing(path: DataFile | None) -> bool:
    try:
        return path is not None and not path_on_disk(path).exists()
    except OSError:  # closed to the user
        return False


def _shown(reason: str, row: Row) -> str:
    """A reason without the way to the data: the same wherever they lie."""
    return reason if row.path is None else reason.replace(str(row.path), row.name)
