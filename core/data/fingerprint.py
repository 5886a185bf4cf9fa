"""What tells one version of a file from another, at a glance or by all of it; and short names for long ones."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG

from core.io.dicom.series_files import is_index
from core.io.npz_archive import container, member_of

_EDGE_BYTES = 4096  # of a file's start and end that are looked at
_CHUNK = 1 << 20
_VOXELS = (".raw", ".zraw")


def files_of(path: Path) -> list[Path]:
    """The files that count: of a folder those in it, of a MetaImage header (``.mhd``) also the voxels beside it.

    What systems put beside images (``.DS_Store``, ``DICOMDIR``) does not. A picture in an archive is in one file, the
    archive. `OSError` where a folder cannot be listed.
    """
    path = container(path)
    if path.is_dir():
        return sorted(one for one in path.iterdir() if one.is_file() and not is_index(one))
    beside = [path.with_suffix(suffix) for suffix in _VOXELS] if path.suffix.lower() == ".mhd" else []
    return [path, *(one for one in beside if one.is_file())]


def edges(path: Path) -> bytes:
    """Name, size, first and last bytes of a file, or of those that count. `OSError` where one cannot be opened."""
    return b"".join(_edges(one) for one in files_of(path))


def stamp_of(path: Path) -> bytes:
    """16 bytes that change with the edges of a file; those of one that is missing or closed say that alone."""
    try:
        what = edges(path) if _can_be_read(path) else b"\0no file"
    except (OSError, ValueError):  # ValueError: a NUL character in the name
        what = b"\0missing"
    return blake2b(what, digest_size=16).digest()


def time_of(path: Path) -> int:
    """64 bits that change with the time when a file, or one that counts, was last written; 0 where it is missing."""
    try:
        return short(repr([one.stat().st_mtime_ns for one in files_of(path)]))
    except (OSError, ValueError):
        return 0


def content_of(path: Path) -> int:
    """64 bits of all bytes of a file, or of those that count, and the number of a picture in it; 0 where unreadable."""
    try:
        return content_hash(path) if _can_be_read(path) else 0
    except (OSError, ValueError):
        return 0


def content_hash(path: Path) -> int:
    """The same; `OSError` where they cannot be read."""
    member = member_of(path)
    if member is not None:  # each is told apart, and the archive is hashed once for all
        status = member.file.stat()
        return short(f"{_hash_of_version(member.file, status.st_size, status.st_mtime_ns)} {member[1:]}")
    return _hash_of_files(path)


@lru_cache(maxsize=4)
def _hash_of_version(path: Path, size: int, time_ns: int) -> int:
    """The hash of an archive; ``size`` and ``time_ns`` tell its versions apart."""
    return _hash_of_files(path)


def _hash_of_files(path: Path) -> int:
    digest = blake2b(digest_size=8)
    for one in files_of(path):
        with one.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return int.from_bytes(digest.digest(), "big")


def stamp_of_text(text: str) -> bytes:
    """The stamp of a text that stands in a table."""
    return blake2b(encoded(text), digest_size=16).digest()


def short(name: str) -> int:
    """64 bits in place of a name."""
    return int.from_bytes(blake2b(encoded(name), digest_size=8).digest(), "big")


def encoded(text: str) -> bytes:
    """Bytes of any string, also of a file name that is no UTF-8."""
    return text.encode(errors="backslashreplace")


def _edges(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_EDGE_BYTES)
        file.seek(max(len(start), size - _EDGE_BYTES))
        return encoded(f"{path.name}\0{size}\0") + start + file.read()


def _can_be_read(path: Path) -> bool:
    path = container(path)
    return path.is_dir() or S_ISREG(path.stat().st_mode)  # a pipe would be waited for
