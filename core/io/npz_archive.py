"""Pictures that lie as one array in an archive of numpy's, as MedMNIST publishes them: ``dermamnist.npz#17``.

`core.types.FileRef` names one of them, and `core.types.file_ref` reads its text form.
"""

from __future__ import annotations

import math
import zipfile
from functools import lru_cache
from typing import IO, Any

import numpy as np

from core.errors import UserError
from core.types import FileRef

SUFFIX = ".npz"
_MAX_BYTES = 1 << 30  # of an array, which stays in memory
_VERSION = (1, 0)  # later versions are for long headers: no picture needs one, and a false one may claim up to 4 GiB
_SHAPES = "number x rows x columns, or those and 3 colours"


def read_picture(file: FileRef) -> Any:
    """Return the picture as one of Pillow's. `UserError` that names ``file`` where there is none."""
    from PIL import Image

    status = file.path.stat()
    try:
        stack = _read_stack(str(file.path), file.member.array, status.st_size, status.st_mtime_ns)
        item = _item(stack, file.member.number)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    return Image.fromarray(item[..., 0] if item.shape[2:] == (1,) else item)


def _item(stack: np.ndarray, number: int) -> np.ndarray:
    if number >= len(stack):
        raise UserError(f"its pictures are numbered 0 to {len(stack) - 1}; correct the number behind #")
    return stack[number]


@lru_cache(maxsize=1)  # data sets are read picture by picture, and each would unpack them all
def _read_stack(path: str, name: str | None, size: int, time_ns: int) -> np.ndarray:
    """Return the array of pictures; ``size`` and ``time_ns`` tell the versions of a file apart."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(_entry_name(archive, name))
        with archive.open(entry) as content:
            _require_picture_header(content, entry)
        with archive.open(entry) as content:
            return np.lib.format.read_array(content, allow_pickle=False)


def _entry_name(archive: zipfile.ZipFile, name: str | None) -> str:
    """Return the name of the entry of an array, or of the only entry that holds pictures."""
    entries = [entry for entry in archive.namelist() if entry.endswith(".npy")]
    if name is not None:
        if f"{name}.npy" not in entries:
            raise UserError(f"holds no array '{name}' (it holds: {_listed(entries)}); correct the name behind #")
        return f"{name}.npy"
    pictures = [entry for entry in entries if len(_header(archive, entry)[0]) >= 3]
    if len(pictures) != 1:
        raise UserError(
            f"holds {len(pictures)} arrays of pictures (of {_listed(entries)}); name one, as in #{{array}}:{{number}}"
        )
    return pictures[0]


def _listed(entries: list[str]) -> str:
    return ", ".join(entry.removesuffix(".npy") for entry in entries[:8]) or "nothing"


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with archive.open(name) as content:
        return _read_header(content)


def _read_header(content: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(content)
    if version != _VERSION:
        raise UserError(f"its array is of .npy version {version}, expected {_VERSION}; save it again with numpy.savez")
    shape, _, dtype = np.lib.format.read_array_header_1_0(content)
    return shape, dtype


def _require_picture_header(content: IO[bytes], entry: zipfile.ZipInfo) -> None:
    """Raise `UserError` unless the header claims what is there and that fits into memory; reads no numbers."""
    shape, dtype = _read_header(content)
    if dtype not in (np.uint8, np.uint16) or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
        raise UserError(f"its array is {dtype} of shape {shape}, expected 8 or 16 bits without sign: {_SHAPES}")
    num_bytes = math.prod(shape) * dtype.itemsize
    if min(shape) < 1 or num_bytes != entry.file_size - content.tell():
        raise UserError(f"its header claims {shape} of {dtype}, {entry.file_size:,} bytes are there; export it again")
    if num_bytes > _MAX_BYTES:
        raise UserError(f"its array takes {num_bytes / 2**30:.1f} GiB of memory; unpack it into a file per picture")
