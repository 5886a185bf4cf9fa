"""What a canonical sample holds beside its array, as JSON and back: place in the patient, and what the file said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.types import Geometry, Sample

_TUPLE = "()"  # the key of a tuple, which JSON has no word for


def to_json(sample: Sample, name: str, stamp: bytes, path: Path | None) -> bytes:
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
            "stored": _packed(place.stored),
        },
    }
    return json.dumps(row, separators=(",", ":"), sort_keys=True).encode()


def from_json(content: bytes, modality: str, data: np.ndarray, path: Path | None) -> tuple[Sample, str, bytes]:
    """The sample, and the name and stamp of the file that it was made of."""
    row = json.loads(content)
    meta = _unpacked(row["meta"])
    if row["own_path"]:
        meta["path"] = str(path)
    place = row["geometry"]
    geometry = None
    if place is not None:
        affine = np.array(place["affine"], dtype=np.float64).reshape(4, 4)
        geometry = Geometry(affine=affine, shape=tuple(place["shape"]), stored=_unpacked(place["stored"]))
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
