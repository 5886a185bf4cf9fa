"""Canonical samples on disk: a safetensors file per portion, and an index that finds one by the name of its file.

An entry of a shard says which file it was made of and what that file looked like, so that a mixed-up or old index can
never hand out a wrong sample. Arrays are read one by one: memory does not grow with the data set.

What a canonical sample holds beside its array, as JSON and back: place in the patient, and what the file said.
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

_TUPLE = "()"  # the key of a tuple, which JSON has no word for


def to_json(sample: Sample, name: str, stamp: bytes, path: DataFile | None) -> bytes:
    """All but the array, with the name and the stamp of the file. `TypeError` for what JSON cannot hold.

    The path of the file is left out, so that the bytes do not depend on where the data lie.
    """
    own = path is not None and sample.meta.get("path") == str(path)
    meta = {key: value for key, value in sample.meta.items() if not (own and key == "path")}
    place = sample.geometry
    row = {
        "name": name,
        "stamp": stamp.hex(),
        "own_path": own,
        "meta": _packed(meta),
        "geometry": None
        if place is None
        else {
            "affine": place.affine.ravel().tolist(),
            "shape": [int(size) for size in place.shape],
            "stored": _packed(place.source_header),
        },
    }
    return json.dumps(row, separators=(",", ":"), sort_keys=True).encode()


def from_json(content: bytes, modality: str, data: np.ndarray, path: DataFile | None) -> tuple[Sample, str, bytes]:
    """The sample, and the name and stamp of the file that it was made of."""
    row = json.loads(content)
    meta = _unpacked(row["meta"])
    if row["own_path"]:
        meta["path"] = str(path)
    place = row["geometry"]
    geometry = None
    if place is not None:
        affine = np.array(place["affine"], dtype=np.float64).reshape(4, 4)
        geometry = Geometry(affine=affine, shape=tuple(place["shape"]), source_header=_unpacked(place["stored"]))
    sample = Sample(modality=modality, data=data, geometry=geometry, meta=meta)
    return sample, row["name"], bytes.fromhex(row["stamp"])


def _packed(value: Any) -> Any:
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys other than strings")
        return {key: _packed(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return {_TUPLE: [_packed(one) for one in value]}
    if isinstance(value, list):
        return [_packed(one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"a {type(value).__name__}")


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_TUPLE}:
            return tuple(_unpacked(one) for one in value[_TUPLE])
        return {key: _unpacked(one) for key, one in value.items()}
    return [_unpacked(one) for one in value] if isinstance(value, list) else value


INDEX = "index.safetensors"
REFUSED, UNKEPT = -1, -2  # places of files that could not be read, and of samples that JSON cannot describe
_ABOUT = "about"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file, or one text (without path): its name in the manifest, its stamp, and its sample where there is one."""

    name: str
    stamp: bytes
    path: DataFile | None
    sample: Sample | None


def shard_path(folder: Path, number: int) -> Path:
    """``00007.safetensors``"""
    return folder / f"{number:05d}.safetensors"


def write_shard(path: Path, entries: Sequence[Entry], about: Mapping[str, Any]) -> int:
    """Write the samples of these entries, and why others have none; how many there are."""
    data, told, places = list[np.ndarray](), list[bytes](), list[int]()
    for entry in entries:
        content = None if entry.sample is None else _described(entry.sample, entry)
        places.append(len(data) if content else REFUSED if entry.sample is None else UNKEPT)
        if entry.sample is not None and content is not None:
            data.append(np.asarray(entry.sample.data))
            told.append(content)
    arrays = {
        "names": np.array([hash64(entry.name) for entry in entries], dtype=np.uint64),
        "stamps": np.array([list(entry.stamp) for entry in entries], dtype=np.uint8).reshape(-1, 16),
        "places": np.array(places, dtype=np.int32),
        **_joined("told", [np.frombuffer(one, dtype=np.uint8) for one in told]),
        **(_joined("data", data) if data and data[0].dtype.kind == "i" else {"data": np.stack(data)} if data else {}),
    }
    _write(path, arrays, about)
    return len(data)


def write_index(folder: Path, num_shards: int, digest: str) -> None:
    """Gather the names of all shards of a modality in one sorted table."""
    names, stamps, places, shards = [], [], [], []
    for number in range(num_shards):
        with _opened(shard_path(folder, number)) as file:
            names.append(file.get_tensor("names"))
            stamps.append(file.get_tensor("stamps"))
            places.append(file.get_tensor("places"))
        shards.append(np.full(len(names[-1]), number, dtype=np.int32))
    versions = taken_versions(folder, num_shards)
    parts: dict[str, list[np.ndarray]] = {
        **{"names": names, "stamps": stamps, "places": places, "shards": shards},
        "times": [np.array([one.time for one in versions], dtype=np.uint64)],
        "contents": [np.array([one.content for one in versions], dtype=np.uint64)],
    }
    order = np.argsort(np.concatenate(names), kind="stable")
    arrays = {name: np.concatenate(several)[order] for name, several in parts.items()}
    _write(folder / INDEX, arrays, {"digest": digest, "shards": num_shards})


def about(path: Path) -> dict[str, Any] | None:
    """What a shard or an index says of itself; ``None`` where it is missing, damaged or not ours."""
    try:
        with _opened(path) as file:
            return json.loads(file.metadata()[_ABOUT])
    except (UserError, KeyError, TypeError, ValueError):
        return None


class Index:
    """Where the samples of a modality are. Held in memory: 48 bytes a sample."""

    def __init__(self, folder: Path) -> None:
        with _opened(folder / INDEX) as file:
            self.digest: str = json.loads(file.metadata()[_ABOUT])["digest"]
            self.names, self.stamps = file.get_tensor("names"), file.get_tensor("stamps")
            self.places, self.shards = file.get_tensor("places"), file.get_tensor("shards")
            self.times, self.contents = file.get_tensor("times"), file.get_tensor("contents")
        self.num_refused = int((self.places == REFUSED).sum())

    def row(self, name: str) -> int | None:
        """The row of a file, ``None`` where it is not listed."""
        key = np.uint64(hash64(name))
        row = int(np.searchsorted(self.names, key))
        return row if row < len(self.names) and self.names[row] == key else None


class Shard:
    """One file of samples, opened once and read in parts."""

    def __init__(self, path: Path) -> None:
        self._file = _opened(path)
        self.digest: str = json.loads(self._file.metadata()[_ABOUT])["digest"]
        names = set(self._file.keys())
        self._ends = {
            name: self._file.get_tensor(f"{name}_ends") for name in ("told", "data") if f"{name}_ends" in names
        }

    def sample(self, place: int, modality: str, path: DataFile | None) -> tuple[Sample, str, bytes]:
        """A sample with the name and stamp of its file."""
        data = self._part("data", place) if "data" in self._ends else self._file.get_slice("data")[place : place + 1][0]
        return from_json(self._part("told", place).tobytes(), modality, np.array(data), path)

    def _part(self, name: str, place: int) -> np.ndarray:
        ends = self._ends[name]
        start = int(ends[place - 1]) if place else 0
        return self._file.get_slice(name)[start : int(ends[place])]


def _described(sample: Sample, entry: Entry) -> bytes | None:
    try:
        return to_json(sample, entry.name, entry.stamp, entry.path)
    except (TypeError, ValueError):
        return None


def _joined(name: str, parts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of different length end to end, and where each ends."""
    if not parts:
        return {}
    return {name: np.concatenate(parts), f"{name}_ends": np.cumsum([len(part) for part in parts], dtype=np.int64)}


def _write(path: Path, arrays: Mapping[str, np.ndarray], said: Mapping[str, Any]) -> None:
    from safetensors.numpy import save

    # One key: safetensors writes several in any order, and equal data shall be equal bytes.
    content = save(dict(arrays), metadata={_ABOUT: json.dumps(said, sort_keys=True)})
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_bytes(content)  # not by safetensors, whose errors do not say that the disk is full


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="np")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run core.prepare again") from error
