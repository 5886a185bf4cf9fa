"""What tells one version of a file from another without reading it whole, and short names for long ones."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG

_EDGE_BYTES = 4096  # of a file's start and end that are looked at
_VOXELS = (".raw", ".zraw")


def edges(path: Path) -> bytes:
    """Name, size, first and last bytes of a file, or of the files in a folder. `OSError` where it cannot be opened."""
    if path.is_dir():
        return b"".join(edges(one) for one in sorted(path.iterdir()) if one.is_file())
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_EDGE_BYTES)
        file.seek(max(len(start), size - _EDGE_BYTES))
        return f"{path.name}\0{size}\0".encode(errors="backslashreplace") + start + file.read()


def stamp_of(path: Path) -> bytes:
    """16 bytes that change with the edges of a file; those of one that is missing or closed say that alone.

    The voxels beside a MetaImage header (``.mhd``) count as part of it.
    """
    try:
        # A pipe would be waited for.
        what = edges(path) if path.is_dir() or S_ISREG(path.stat().st_mode) else b"\0no file"
        beside = [path.with_suffix(suffix) for suffix in _VOXELS] if path.suffix.lower() == ".mhd" else []
        what += b"".join(edges(one) for one in beside if one.is_file())
    except (OSError, ValueError):  # ValueError: a NUL character in the name
        what = b"\0missing"
    return blake2b(what, digest_size=16).digest()


def stamp_of_text(text: str) -> bytes:
    """The same for a text that stands in a table."""
    return blake2b(encoded(text), digest_size=16).digest()


def short(name: str) -> int:
    """64 bits in place of a name."""
    return int.from_bytes(blake2b(encoded(name), digest_size=8).digest(), "big")


def encoded(text: str) -> bytes:
    """Bytes of any string, also of a file name that is no UTF-8."""
    return text.encode(errors="backslashreplace")
