"""Pictures that lie as one array in an archive of numpy's, as MedMNIST publishes them: ``dermamnist.npz#17``."""

from __future__ import annotations

import math
import re
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from core.errors import UserError

SUFFIX = ".npz"
_MEMBER = re.compile(r"(?P<file>.+\.npz)#(?:(?P<array>[^#:]+):)?(?P<number>[0-9]{1,9})", re.IGNORECASE | re.DOTALL)
_MOST_BYTES = 1 << 30  # of an array, which is kept in memory
_VERSION = (1, 0)  # later ones are for long headers, which no picture needs and a lying one may state up to 4 GiB of
_SHAPES = "number x rows x columns, or those and 3 colours"


class Member(NamedTuple):
    """One picture of an archive. ``array``: its array, where the archive holds several of pictures."""

    file: Path
    array: str | None
    number: int


def member_of(path: Path) -> Member | None:
    """What ``images.npz#17`` and ``dermamnist.npz#val_images:17`` name; ``None`` for the path of a file."""
    said = _MEMBER.fullmatch(str(path))
    return None if said is None else Member(Path(said["file"]), said["array"], int(said["number"]))


def container(path: Path) -> Path:
    """The file that a path is in: the archive of a picture in one, else the path itself."""
    member = member_of(path)
    return path if member is None else member.file


def picture_in(member: Member, path: Path) -> Any:
    """The picture as one of Pillow's. `UserError` that names ``path`` where there is none."""
    from PIL import Image

    status = member.file.stat()
    try:
        stack = _stack(str(member.file), member.array, status.st_size, status.st_mtime_ns)
        item = _item(stack, member.number)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Image.fromarray(item[..., 0] if item.shape[2:] == (1,) else item)


def _item(stack: np.ndarray, number: int) -> np.ndarray:
    if number >= len(stack):
        raise UserError(f"its pictures are numbered 0 to {len(stack) - 1}; correct the number behind #")
    return stack[number]


@lru_cache(maxsize=1)  # data sets are read picture by picture, and each would unpack them all
def _stack(file: str, name: str | None, size: int, time_ns: int) -> np.ndarray:
    """The array of pictures; ``size`` and ``time_ns`` tell the versions of a file apart."""
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo(_chosen(archive, name))
        with archive.open(entry) as content:
            _check_header(content, entry)
        with archive.open(entry) as content:
            return np.lib.format.read_array(content, allow_pickle=False)


def _chosen(archive: zipfile.ZipFile, name: str | None) -> str:
    """The entry of an array by its name, or the only one that holds pictures."""
    entries = [one for one in archive.namelist() if one.endswith(".npy")]
    if name is not None:
        if f"{name}.npy" not in entries:
            raise UserError(f"holds no array '{name}' (it holds: {_listed(entries)}); correct the name behind #")
        return f"{name}.npy"
    holding = [one for one in entries if len(_header(archive, one)[0]) >= 3]
    if len(holding) != 1:
        raise UserError(
            f"holds {len(holding)} arrays of pictures (of {_listed(entries)}); name one, as in #{{array}}:{{number}}"
        )
    return holding[0]


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


def _check_header(content: IO[bytes], entry: zipfile.ZipInfo) -> None:
    """Before a number is read: the header asks for what is there, and that is not more than fits into memory."""
    shape, dtype = _read_header(content)
    if dtype not in (np.uint8, np.uint16) or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
        raise UserError(f"its array is {dtype} of shape {shape}, expected 8 or 16 bits without sign: {_SHAPES}")
    num_bytes = math.prod(shape) * dtype.itemsize
    if min(shape) < 1 or num_bytes != entry.file_size - content.tell():
        raise UserError(f"its array says {shape} of {dtype}, {entry.file_size:,} bytes are there; export it again")
    if num_bytes > _MOST_BYTES:
        raise UserError(f"its array takes {num_bytes / 2**30:.1f} GiB of memory; unpack it into a file per picture")
