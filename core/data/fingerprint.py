"""Fingerprints that tell one version of a file from another, at a glance or by all its bytes."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG

from core.io.dicom.instance import shared_content
from core.io.dicom.series_files import is_index
from core.types import DataFile, FileRef, path_on_disk

_EDGE_BYTES = 4096  # of a file's start and end that are read
_CHUNK = 1 << 20
_VOXELS = (".raw", ".zraw")


def file_fingerprint(file: DataFile) -> bytes:
    """Return 16 bytes that change with the name, size, start and end of a file; one value for all missing files."""
    try:
        content = head_tail_bytes(file) if _can_be_read(file) else b"\0no file"
    except (OSError, ValueError):  # ValueError: a NUL character in the name
        content = b"\0missing"
    return blake2b(content, digest_size=16).digest()


def text_fingerprint(text: str) -> bytes:
    """Return the 16 bytes of a text in a table."""
    return blake2b(encoded(text), digest_size=16).digest()


def head_tail_bytes(file: DataFile) -> bytes:
    """Return name, size, first and last 4096 bytes of each of `files_of`. `OSError` where one cannot be opened."""
    return b"".join(_head_tail(path) for path in files_of(file))


def time_hash(file: DataFile) -> int:
    """Return 64 bits that change with the time when one of `files_of` was last written; 0 where it is missing."""
    try:
        return hash64(repr([path.stat().st_mtime_ns for path in files_of(file)]))
    except (OSError, ValueError):
        return 0


def content_hash(file: DataFile) -> int:
    """Return 64 bits of all bytes of `files_of`, and of the member of an archive. `OSError` where they are unreadable.

    Two pictures of one archive differ, though the archive is hashed once for all.
    """
    if isinstance(file, FileRef):
        status = file.path.stat()
        archive = _hash_of_version(file.path, status.st_size, status.st_mtime_ns)
        return hash64(f"{archive} {tuple(file.member)}")
    return _hash_of_files(file)


def content_hash_or_zero(file: DataFile) -> int:
    """Return the same; 0 where the file cannot be read."""
    try:
        return content_hash(file) if _can_be_read(file) else 0
    except (OSError, ValueError):
        return 0


def files_of(file: DataFile) -> list[Path]:
    """Return the files that count: those in a folder, and with a MetaImage header (``.mhd``) the voxels next to it.

    What systems put next to images (``.DS_Store``, ``DICOMDIR``) does not count. A picture in an archive has one file,
    the archive. `OSError` where a folder cannot be listed.
    """
    path = path_on_disk(file)
    if path.is_dir():
        return sorted(entry for entry in path.iterdir() if entry.is_file() and not is_index(entry))
    voxels = [path.with_suffix(suffix) for suffix in _VOXELS] if path.suffix.lower() == ".mhd" else []
    return [path, *(entry for entry in voxels if entry.is_file())]


def hash64(name: str) -> int:
    """Return 64 bits in place of a name."""
    return int.from_bytes(blake2b(encoded(name), digest_size=8).digest(), "big")


def encoded(text: str) -> bytes:
    """Return the bytes of any string, also of a file name that is no UTF-8."""
    return text.encode(errors="backslashreplace")


@lru_cache(maxsize=4)
def _hash_of_version(path: Path, size: int, time_ns: int) -> int:
    """Return the hash of an archive; ``size`` and ``time_ns`` tell its versions apart."""
    return _hash_of_files(path)


def _hash_of_files(file: DataFile) -> int:
    digest = blake2b(digest_size=8)
    for path in files_of(file):
        content = shared_content(path)
        if content is not None:
            digest.update(content)
            continue
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return int.from_bytes(digest.digest(), "big")


def _head_tail(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_EDGE_BYTES)
        file.seek(max(len(start), size - _EDGE_BYTES))
        return encoded(f"{path.name}\0{size}\0") + start + file.read()


def _can_be_read(file: DataFile) -> bool:
    path = path_on_disk(file)
    return path.is_dir() or S_ISREG(path.stat().st_mode)  # reading a pipe would wait for its writer
