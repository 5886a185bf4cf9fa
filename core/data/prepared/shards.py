"""Canonical samples on disk: a safetensors file per chunk, and an index that finds a sample by the name of its file.

An entry of a shard names the file of which it was made and holds its fingerprint, so that an index that is mixed up or
old can never return a wrong sample. Arrays are read one by one: memory does not grow with the data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.data.fingerprint import hash64
from core.data.prepared.file_versions import taken_versions
from core.errors import UserError
from core.io import atomic_write
from core.types import DataFile, Geometry, Sample

INDEX = "index.safetensors"
UNREADABLE, UNSTORED = -1, -2  # in place of an index: the file could not be read; JSON cannot describe the sample
_HEADER = "about"  # the key of the metadata
_TUPLE = "()"  # the key of a tuple, which JSON has no word for


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file, or a text (without path): its name in the manifest, its fingerprint, and its sample if there is one."""

    name: str
    fingerprint: bytes
    path: DataFile | None
    sample: Sample | None


def shard_path(folder: Path, number: int) -> Path:
    """Return ``00007.safetensors`` in the folder."""
    return folder / f"{number:05d}.safetensors"


def write_shard(path: Path, entries: Sequence[Entry], header: Mapping[str, Any]) -> int:
    """Write the samples of these entries, and why others have none; return how many there are."""
    data, descriptions, indices = list[np.ndarray](), list[bytes](), list[int]()
    for entry in entries:
        description = None if entry.sample is None else _described(entry.sample, entry)
        indices.append(len(data) if description else UNREADABLE if entry.sample is None else UNSTORED)
        if entry.sample is not None and description is not None:
            data.append(np.asarray(entry.sample.data))
            descriptions.append(description)
    arrays = {
        "names": np.array([hash64(entry.name) for entry in entries], dtype=np.uint64),
        "stamps": np.array([list(entry.fingerprint) for entry in entries], dtype=np.uint8).reshape(-1, 16),
        "places": np.array(indices, dtype=np.int32),
        **_joined("told", [np.frombuffer(description, dtype=np.uint8) for description in descriptions]),
        **(_joined("data", data) if data and data[0].dtype.kind == "i" else {"data": np.stack(data)} if data else {}),
    }
    _write(path, arrays, header)
    return len(data)


def write_index(folder: Path, num_shards: int, digest: str) -> None:
    """Gather the names of all shards of a modality in one sorted table."""
    names, fingerprints, indices, shards = [], [], [], []
    for number in range(num_shards):
        with _opened(shard_path(folder, number)) as file:
            names.append(file.get_tensor("names"))
            fingerprints.append(file.get_tensor("stamps"))
            indices.append(file.get_tensor("places"))
        shards.append(np.full(len(names[-1]), number, dtype=np.int32))
    versions = taken_versions(folder, num_shards)
    parts: dict[str, list[np.ndarray]] = {
        **{"names": names, "stamps": fingerprints, "places": indices, "shards": shards},
        "times": [np.array([version.time for version in versions], dtype=np.uint64)],
        "contents": [np.array([version.content for version in versions], dtype=np.uint64)],
    }
    order = np.argsort(np.concatenate(names), kind="stable")
    arrays = {name: np.concatenate(several)[order] for name, several in parts.items()}
    _write(folder / INDEX, arrays, {"digest": digest, "shards": num_shards})


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a shard or an index; ``None`` where it is missing, damaged or not MedWeave's."""
    try:
        with _opened(path) as file:
            return json.loads(file.metadata()[_HEADER])
    except (UserError, KeyError, TypeError, ValueError):
        return None


class Index:
    """Where the samples of a modality are. Held in memory: 48 bytes a sample."""

    def __init__(self, folder: Path) -> None:
        with _opened(folder / INDEX) as file:
            self.digest: str = json.loads(file.metadata()[_HEADER])["digest"]
            self.names, self.fingerprints = file.get_tensor("names"), file.get_tensor("stamps")
            self.indices, self.shards = file.get_tensor("places"), file.get_tensor("shards")
            self.times, self.contents = file.get_tensor("times"), file.get_tensor("contents")
        self.num_unreadable = int((self.indices == UNREADABLE).sum())

    def row(self, name: str) -> int | None:
        """Return the row of a file, ``None`` where it is not listed."""
        key = np.uint64(hash64(name))
        row = int(np.searchsorted(self.names, key))
        return row if row < len(self.names) and self.names[row] == key else None


class Shard:
    """One file of samples, opened once and read in parts."""

    def __init__(self, path: Path) -> None:
        self._file = _opened(path)
        self.digest: str = json.loads(self._file.metadata()[_HEADER])["digest"]
        names = set(self._file.keys())
        self._ends = {
            name: self._file.get_tensor(f"{name}_ends") for name in ("told", "data") if f"{name}_ends" in names
        }

    def sample(self, index: int, modality: str, path: DataFile | None) -> tuple[Sample, str, bytes]:
        """Return a sample with the name and the fingerprint of its file."""
        data = self._part("data", index) if "data" in self._ends else self._file.get_slice("data")[index : index + 1][0]
        return from_json(self._part("told", index).tobytes(), modality, np.array(data), path)

    def _part(self, name: str, index: int) -> np.ndarray:
        ends = self._ends[name]
        start = int(ends[index - 1]) if index else 0
        return self._file.get_slice(name)[start : int(ends[index])]


def to_json(sample: Sample, name: str, fingerprint: bytes, path: DataFile | None) -> bytes:
    """Return all but the array, with the name and the fingerprint of the file. `TypeError` for what JSON cannot hold.

    The path of the file is left out, so that the bytes do not depend on where the data lie.
    """
    with_path = path is not None and sample.meta.get("path") == str(path)
    meta = {key: value for key, value in sample.meta.items() if not (with_path and key == "path")}
    geometry = sample.geometry
    row = {
        "name": name,
        "stamp": fingerprint.hex(),
        "own_path": with_path,
        "meta": _packed(meta),
        "geometry": None
        if geometry is None
        else {
            "affine": geometry.affine.ravel().tolist(),
            "shape": [int(size) for size in geometry.shape],
            "stored": _packed(geometry.source_header),
        },
    }
    return json.dumps(row, separators=(",", ":"), sort_keys=True).encode()


def from_json(content: bytes, modality: str, data: np.ndarray, path: DataFile | None) -> tuple[Sample, str, bytes]:
    """Return the sample, and the name and the fingerprint of the file of which it was made."""
    row = json.loads(content)
    meta = _unpacked(row["meta"])
    if row["own_path"]:
        meta["path"] = str(path)
    written = row["geometry"]
    geometry = None
    if written is not None:
        affine = np.array(written["affine"], dtype=np.float64).reshape(4, 4)
        geometry = Geometry(affine=affine, shape=tuple(written["shape"]), source_header=_unpacked(written["stored"]))
    sample = Sample(modality=modality, data=data, geometry=geometry, meta=meta)
    return sample, row["name"], bytes.fromhex(row["stamp"])


def _described(sample: Sample, entry: Entry) -> bytes | None:
    try:
        return to_json(sample, entry.name, entry.fingerprint, entry.path)
    except (TypeError, ValueError):
        return None


def _packed(value: Any) -> Any:
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys other than strings")
        return {key: _packed(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return {_TUPLE: [_packed(item) for item in value]}
    if isinstance(value, list):
        return [_packed(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"a {type(value).__name__}")


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_TUPLE}:
            return tuple(_unpacked(item) for item in value[_TUPLE])
        return {key: _unpacked(item) for key, item in value.items()}
    return [_unpacked(item) for item in value] if isinstance(value, list) else value


def _joined(name: str, parts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays of different length end to end, and where each ends."""
    if not parts:
        return {}
    return {name: np.concatenate(parts), f"{name}_ends": np.cumsum([len(part) for part in parts], dtype=np.int64)}


def _write(path: Path, arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    from safetensors.numpy import save

    # One key: safetensors writes several in any order, and equal data shall be equal bytes.
    content = save(dict(arrays), metadata={_HEADER: json.dumps(header, sort_keys=True)})
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_bytes(content)  # not by safetensors, whose errors do not say that the disk is full


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="np")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run core.prepare again") from error
