"""Prompts and given files as they are read, and how provenance shows them."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.contract.modality import Parts, Reader
from core.errors import MedWeaveWarning, UserError
from core.generate.bundle import Bundle
from core.generate.reading import HINT, published_choice, split_choice, with_choice
from core.preprocess.collate import collate
from core.types import Batch, DataFile, FileRef, Geometry, Sample, file_ref, path_on_disk

InputValue = str | Path | np.ndarray | Sample
_SHOWN = 60  # characters of a value in a message
DIGEST = "sha256:"  # how a file or array is shown
_ENDS = 2  # tokens of a canonical text that stand for its begin and end
_SETTING = re.compile(r"\bset \w+ = ")  # how an error of a reader names one


@dataclass(frozen=True, kw_only=True, eq=False)
class InputBatch:
    """A batch of one, and how provenance shows it: a text, or the SHA-256 of a file; never a path.

    ``geometry``: that of the file's image.
    """

    batch: Batch
    shown: str
    geometry: Geometry | None = None


def read_input(bundle: Bundle, flag: str, name: str, value: InputValue, *, keep: bool) -> InputBatch:
    """Read a file, or take data or a text as they are.

    A string is a file where there is one of that name, else a text; the text of a `Sample` is always a text. A path may
    say which slice or series is meant (`core.generate.reading`).
    ``keep``: the text of a file is shown in place of its SHA-256. An array is in original units, with or without its
    channel axis, on the modality's default grid (`DataSpec.default_geometry`); a `Sample` brings its own.
    """
    if isinstance(value, Sample) and isinstance(value.data, str):
        return _of_text(bundle, flag, name, value.data)
    if isinstance(value, np.ndarray | Sample):
        return _of_data(bundle, flag, name, value)
    if isinstance(value, Path):
        value = _existing(flag, name, value)
    parts = bundle.run.parts(name)
    if parts.reader is None or parts.preprocess is None:
        raise UserError(f"modality '{name}' cannot be read at preset '{bundle.run.config.preset}'; leave it out")
    file, choice = split_choice(value)
    if parts.data.kind == "tokens" and not is_file(file):
        _require_no_path(flag, name, value, parts.reader.build())
        return _of_text(bundle, flag, name, value)
    config = with_choice(parts.reader, choice, f"{flag} {name}={file}") if choice else parts.reader
    sample = _read(config.build(), flag, name, file)
    is_shown = keep and isinstance(sample.data, str)
    shown = str(sample.data) if is_shown else _digest(file_ref(Path(file))) + published_choice(choice, file)
    return _as_batch(flag, sample, value, shown, parts)


def _of_text(bundle: Bundle, flag: str, name: str, text: str) -> InputBatch:
    """Return a text as an input, whatever files there are."""
    parts = bundle.run.parts(name)
    if parts.preprocess is None or parts.data.kind != "tokens":
        raise UserError(f"{flag} {name}: is given as a text, and is none; give a file or an array")
    return _as_batch(flag, Sample(modality=name, data=text), text, text, parts)


def _as_batch(flag: str, sample: Sample, value: str, shown: str, parts: Parts) -> InputBatch:
    """Return a sample as an input that provenance shows so; warn of a text that is cut."""
    assert parts.preprocess is not None  # noqa: S101  # the callers have checked
    canonical = _canonical(flag, sample, value, parts)
    if cut := int(canonical.meta.get("cut_tokens", 0)):
        read = str(parts.preprocess.build().invert(canonical).data)
        _warn_of_cut(flag, sample.modality, cut, len(canonical.data), read)
        shown = read if shown == sample.data else shown  # provenance states what was read, and no more
    return InputBatch(batch=collate([canonical], parts.data), shown=shown, geometry=sample.geometry)


def _existing(flag: str, name: str, path: Path) -> str:
    if not path_on_disk(file_ref(Path(split_choice(str(path))[0]))).exists():
        raise UserError(f"{flag} {name}={path}: no such file; correct the path")
    return str(path)


def _of_data(bundle: Bundle, flag: str, name: str, value: np.ndarray | Sample) -> InputBatch:
    """Return data of the program that asks as an input; provenance shows their SHA-256."""
    parts = bundle.run.parts(name)
    if parts.preprocess is None:
        raise UserError(f"modality '{name}' cannot be read at preset '{bundle.run.config.preset}'; leave it out")
    sample = _sample_of(flag, name, value, parts) if isinstance(value, np.ndarray) else replace(value, modality=name)
    assert not isinstance(sample.data, str)  # noqa: S101  # read_input has checked
    canonical = _canonical(flag, sample, f"array {sample.data.shape}", parts)
    digest = hashlib.sha256(f"{sample.data.dtype} {sample.data.shape}".encode())
    digest.update(np.ascontiguousarray(sample.data).tobytes())
    batch = collate([canonical], parts.data)
    return InputBatch(batch=batch, shown=f"{DIGEST}{digest.hexdigest()}", geometry=sample.geometry)


def _sample_of(flag: str, name: str, value: np.ndarray, parts: Parts) -> Sample:
    """Return an array on the modality's default grid; `UserError` for numbers that are none, and for another shape."""
    geometry, what = parts.data.default_geometry, f"{flag} {name}: an array of {value.dtype} {value.shape}"
    if value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise UserError(f"{what} is not of finite numbers; give numbers in {parts.data.units}")
    space = parts.data.space if geometry is None else geometry.shape
    data = value.astype(np.float32)
    data = data[None] if data.ndim == len(space) else data
    if data.shape[1:] != tuple(space):
        raise UserError(
            f"{what} is not on the grid of {name}, {' x '.join(map(str, space))}; give a file, or a core.api.Sample"
            " with the geometry of the array"
        )
    return Sample(modality=name, data=data, geometry=geometry)


def _warn_of_cut(flag: str, name: str, cut: int, length: int, read: str) -> None:
    """Warn once that a text is longer than what is read of it."""
    whole = length - _ENDS + cut
    message = (
        f"{flag} {name}: {length - _ENDS} of {whole} tokens are read, to '…{read[-_SHOWN // 2 :].strip()}'; what comes"
        f" after it has no effect: shorten the text, or train with a larger {name}.preprocess.length"
    )
    warnings.warn(MedWeaveWarning(" ".join(message.split())), stacklevel=2)


def _read(reader: Reader, flag: str, name: str, value: str) -> Sample:
    try:
        return reader.read(file_ref(Path(value)))
    except UserError as error:
        if not _SETTING.search(str(error)):
            raise
        raise UserError(f"{error}; or, for {flag} {name}, {HINT}") from error


def is_file(value: str) -> bool:
    """Return whether a value names a file."""
    try:
        return path_on_disk(file_ref(Path(value))).is_file()
    except (OSError, ValueError):  # a long text is no path
        return False


def is_folder(value: str) -> bool:
    """Return whether a value names a folder."""
    try:
        return Path(value).is_dir()
    except (OSError, ValueError):
        return False


def _require_no_path(flag: str, name: str, value: str, reader: Reader) -> None:
    """Raise `UserError` where a text is the name of a missing file: it would be the prompt, and be published."""
    word = value.strip()
    what = f"{flag} {name}={word[:_SHOWN]}"
    if is_folder(word):
        raise UserError(f"{what}: is a folder; name a file, or write the text in several words")
    pathlike = len(word.split()) == 1 and any(separator in word for separator in "/\\")
    if pathlike or word.lower().endswith(tuple(reader.suffixes)):
        raise UserError(f"{what}: no such file; correct the path, or write a text that does not look like a file name")


def _canonical(flag: str, sample: Sample, value: str, parts: Parts) -> Sample:
    """Return the sample in canonical form; `UserError` where it does not fit its modality."""
    assert parts.preprocess is not None  # noqa: S101  # read_input has checked
    try:
        canonical = parts.preprocess.build().apply(sample)
        collate([canonical], parts.data)
        return canonical
    except (ValueError, UserError) as error:
        raise UserError(
            f"{flag} {sample.modality}={value[:_SHOWN]}: does not fit modality '{sample.modality}' ({error}); give a"
            " file of this modality"
        ) from error


def _digest(file: DataFile) -> str:
    """Return the SHA-256 of a file, of all files in a folder, or of an archive and the member that is meant."""
    path = path_on_disk(file)
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    digest = hashlib.sha256(str(tuple(file.member)).encode() if isinstance(file, FileRef) else b"")
    for entry in files:
        digest.update(entry.read_bytes())
    return f"{DIGEST}{digest.hexdigest()}"
