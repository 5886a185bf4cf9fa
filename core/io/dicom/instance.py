"""One DICOM file, opened and parsed once: whether it is one, its header, its pixels and the size they state."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import MedWeaveWarning, UserError
from core.io.dicom.header import Header, wanted_tags
from core.io.files import decoding, opening, require_file

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


SUFFIXES = (".dcm", ".dicom", ".ima")
_PREAMBLE, _PREFIX = 128, b"DICM"  # PS3.10 7.1
_START = _PREAMBLE + len(_PREFIX)
_WHOLE = 16 << 20  # bytes of a file that is read whole at once: slices and radiographs are smaller
HELD_BYTES = 256 << 20  # of files that are opened before their pixels are wanted
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"  # PS3.5 A.1, A.2
_PIXELS = b"\xe0\x7f\x10\x00"  # (7FE0,0010), little endian
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # PS3.5 A.5
_META = 1 << 16  # bytes that hold the file's meta information


class DicomFile:
    """A file that may be DICOM, opened once: `is_dicom`, `header` and `plain_pixels` share its bytes.

    A file of more than 16 MiB is not read whole: its header alone, then its pixels where the header can be true.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: bytes | None = None  # all of a DICOM file, else its start
        self._header: Header | None = None
        self._end_of_header = 0
        self._is_held = False

    @property
    def is_dicom(self) -> bool:
        """Whether it starts as DICOM files do, whatever its name; `UserError` where it may not be opened."""
        with opening(self.path):
            return self.path.is_file() and _has_prefix(self._read())

    @property
    def header(self) -> Header:
        """All but the pixels; `UserError` that names the file for what is no DICOM file, or a broken one."""
        if self._header is None:
            path = require_file(self.path, ("",))
            if not path.is_file():
                raise UserError(f"{path}: is neither a file nor a folder; name a DICOM file")
            with decoding(path, "DICOM"):
                self._header = Header(path, self.parse(pixels=False), self)
        return self._header

    @property
    def content(self) -> bytes | None:
        """All bytes, where they were read and are kept."""
        return self._content if self._content is not None and len(self._content) > _START else None

    def parse(self, *, pixels: bool) -> Dataset:
        """Return the elements that `wanted_tags` lists; with ``pixels`` those too, and `UserError` without any."""
        from pydicom import config, dcmread

        with self._stream() as stream, config.disable_value_validation():
            start = stream.read(_META)
            _require_prefix(start, self.path)
            if _DEFLATED in start:  # before pydicom inflates it whole, to whatever size
                raise UserError(f"{self.path}: is deflated as a whole; convert it to Explicit VR Little Endian")
            stream.seek(0)
            dataset = dcmread(stream, stop_before_pixels=not pixels, specific_tags=wanted_tags())
            dataset.buffer = None  # which would hold all bytes as long as the header lives
            if not pixels:
                self._end_of_header = stream.tell()
        if not dataset.file_meta.get("TransferSyntaxUID"):
            raise UserError(f"{self.path}: states no transfer syntax, so its bytes mean nothing; export it again")
        if pixels and not dataset.get("PixelData"):
            floating = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
            content = "floating-point pixels" if floating else "no pixels"
            raise UserError(f"{self.path}: holds {content}, expected integers in PixelData; export it again")
        return dataset

    def plain_pixels(self, num_bytes: int) -> memoryview | None:
        """Return the bytes of pixels that need no decoder; ``None`` where pydicom has to look at the file.

        They are little endian, not compressed, the last element of the file, and exactly ``num_bytes``, padded to even.
        """
        syntax = str(self.header.dataset.file_meta.TransferSyntaxUID)
        content, start = self._read(), self._end_of_header
        element = content[start : start + 12]
        if syntax == _EXPLICIT and element[:6] in (_PIXELS + b"OW", _PIXELS + b"OB"):
            start, length = start + 12, int.from_bytes(element[8:12], "little")
        elif syntax == _IMPLICIT and element[:4] == _PIXELS:
            start, length = start + 8, int.from_bytes(element[4:8], "little")
        else:
            return None
        is_last = 0 <= len(content) - start - length < 8  # bytes of the shortest element
        return (
            memoryview(content)[start : start + num_bytes] if is_last and length == num_bytes + num_bytes % 2 else None
        )

    def release(self) -> None:
        """Let the bytes go, unless `shared_files` keeps them."""
        if not self._is_held:
            self._content = None

    def _read(self) -> bytes:
        """Return all bytes of a DICOM file of up to 16 MiB; of any other file those that say what it is."""
        content = self._content
        if content is None:
            with self.path.open("rb", buffering=0) as file:
                content = file.read(_START) or b""
                if _has_prefix(content) and self.path.stat().st_size <= _WHOLE:
                    file.seek(0)
                    content = file.readall() or b""
            shared = _shared.get()
            self._is_held = shared is not None and shared.has_room_for(len(content))
            self._content = content
        return content

    def _stream(self) -> BytesIO | BufferedReader:
        content = self._read()
        return _Clipped(self.path) if len(content) <= _START else _Named(content, self.path)


@dataclass
class _SharedFiles:
    files: dict[Path, DicomFile] = field(default_factory=dict)
    num_bytes: int = 0

    def has_room_for(self, num_bytes: int) -> bool:
        if self.num_bytes + num_bytes > HELD_BYTES:
            return False
        self.num_bytes += num_bytes
        return True


_shared: ContextVar[_SharedFiles | None] = ContextVar("files that are opened once in a block", default=None)


@contextmanager
def shared_files() -> Iterator[None]:
    """Open each DICOM file once in this block, whoever reads it; the bytes of up to 256 MiB stay until it ends."""
    token = _shared.set(_SharedFiles())
    try:
        yield
    finally:
        _shared.reset(token)


def shared_content(path: Path) -> bytes | None:
    """Return all bytes of a file that was read before in the block of `shared_files`, where they are still there."""
    shared = _shared.get()
    return None if shared is None or path not in shared.files else shared.files[path].content


def open_dicom(path: Path) -> DicomFile:
    """Return the file of a path: in a block of `shared_files` the same one each time."""
    shared = _shared.get()
    return DicomFile(path) if shared is None else shared.files.setdefault(path, DicomFile(path))


def is_dicom(path: Path) -> bool:
    """Return whether a file starts as DICOM files do, whatever its name; `UserError` where it may not be opened."""
    if _shared.get() is not None:
        return open_dicom(path).is_dicom
    with opening(path):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _has_prefix(file.read(_START))


def read_header(path: Path) -> Header:
    """Return all but the pixels; `UserError` that names the file for what is no DICOM file, or a broken one."""
    return open_dicom(Path(path)).header


@contextmanager
def collect_warnings(path: Path) -> Iterator[None]:
    """Turn what pydicom warns of while a path is read into one `MedWeaveWarning` that names it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    ours = [warning.message for warning in caught if isinstance(warning.message, MedWeaveWarning)]
    # Other categories speak to programmers.
    others = [
        warning.message
        for warning in caught
        if isinstance(warning.message, UserWarning) and warning.message not in ours
    ]
    foreign = list(dict.fromkeys(" ".join(str(message).split()) for message in others))
    for message in ours:
        warnings.warn(message, stacklevel=3)
    if foreign:
        more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        warnings.warn(MedWeaveWarning(f"{path}: read, but: {foreign[0]}{more}"), stacklevel=3)


class _Named(BytesIO):
    """The bytes of a file, which pydicom's messages name."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(content)
        self.name = str(path)


class _Clipped(BufferedReader):
    """A file of which nobody can ask more bytes than it has: Python would make room for them first."""

    def __init__(self, path: Path) -> None:
        super().__init__(FileIO(str(path)))  # pydicom puts the name into messages
        self.size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``size`` bytes; all that is left for a negative number."""
        left = max(0, self.size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _has_prefix(start: bytes) -> bool:
    return start[_PREAMBLE:_START] == _PREFIX


def _require_prefix(start: bytes, path: Path) -> None:
    if _has_prefix(start):
        return
    if start[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08"):
        raise UserError(
            f"{path}: looks like DICOM without its preamble (128 bytes and DICM); if it is, mend it with"
            " pydicom.dcmread(path, force=True).save_as(new, enforce_file_format=True)"
        )
    raise UserError(f"{path}: is no DICOM file (no DICM behind the first 128 bytes); name another, or convert it")


_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # ITU-T T.81 B.1.1.3, T.87 C.1.1
_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ: ITU-T T.800 A.4.1, A.5.1
_BOXES = 1 << 16  # bytes in which the codestream of a JP2 file starts


def stated_size(frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components of a JPEG, JPEG-LS or JPEG 2000 frame; ``None`` where it states none."""
    if frame[:2] == b"\xff\xd8":
        return _jpeg(frame)
    start = frame.find(_J2K_START, 0, _BOXES)
    return None if start < 0 else _jpeg_2000(frame[start + 4 : start + 42])


def _jpeg(frame: bytes) -> tuple[int, int, int] | None:
    offset = 2
    while offset + 10 <= len(frame) and frame[offset] == 0xFF:
        code = frame[offset + 1]
        if code == 0xFF:  # fill
            offset += 1
            continue
        if code in _START_OF_FRAME:
            return struct.unpack(">HHB", frame[offset + 5 : offset + 10])
        offset += 2 + max(2, struct.unpack(">H", frame[offset + 2 : offset + 4])[0])
    return None


def _jpeg_2000(size: bytes) -> tuple[int, int, int] | None:
    if len(size) < 38:
        return None
    right, bottom, left, top = struct.unpack(">4I", size[4:20])
    return bottom - top, right - left, struct.unpack(">H", size[36:38])[0]
