"""One DICOM instance, safely: the header first, the pixels only where the header can be true.

The size that a compressed frame states itself, before a decoder makes room for it.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import MedWeaveWarning, UserError
from core.io.dicom.header import Header, wanted_tags
from core.io.files import decoding, opening, require_file

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # ITU-T T.81 B.1.1.3, T.87 C.1.1
_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ: ITU-T T.800 A.4.1, A.5.1
_BOXES = 1 << 16  # bytes in which the codestream of a JP2 file starts


def stated_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components of a JPEG, JPEG-LS or JPEG 2000 frame; ``None`` where it states none."""
    if frame[:2] == b"\xff\xd8":
        return _jpeg(frame)
    start = frame.find(_J2K_START, 0, _BOXES)
    return None if start < 0 else _jpeg_2000(frame[start + 4 : start + 42])


def _jpeg(frame: bytes) -> tuple[int, int, int] | None:
    place = 2
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        code = frame[place + 1]
        if code == 0xFF:  # fill
            place += 1
            continue
        if code in _START_OF_FRAME:
            return struct.unpack(">HHB", frame[place + 5 : place + 10])
        place += 2 + max(2, struct.unpack(">H", frame[place + 2 : place + 4])[0])
    return None


def _jpeg_2000(size: bytes) -> tuple[int, int, int] | None:
    if len(size) < 38:
        return None
    right, bottom, left, top = struct.unpack(">4I", size[4:20])
    return bottom - top, right - left, struct.unpack(">H", size[36:38])[0]


SUFFIXES = (".dcm", ".dicom", ".ima")
CODECS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
_PREAMBLE, _PREFIX = 128, b"DICM"  # PS3.10 7.1
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # PS3.5 A.5
_META = 1 << 16  # bytes that hold the file's meta information
_GREY = ("MONOCHROME1", "MONOCHROME2")
_EXCESS = 4096  # bytes of padding behind pixels that some archives write


@dataclass(frozen=True)
class PixelLayout:
    """How the pixels of an instance are stored (PS3.3 C.7.6.3)."""

    frames: int
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    inverted: bool

    @property
    def num_bytes(self) -> int:
        """Bytes of all frames, decoded; eight points of one bit share a byte (PS3.5 8.1.1)."""
        return -(-self.frames * self.rows * self.columns * self.bits_allocated // 8)

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest number that can be stored."""
        largest = 2**self.bits_stored - 1
        return (-(largest + 1) // 2, largest // 2) if self.signed else (0, largest)


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM files do, whatever its name; `UserError` where it may not be opened."""
    with opening(path):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == _PREFIX


def read_header(path: Path) -> Header:
    """All but the pixels; `UserError` that names the file for what is no DICOM file, or a broken one."""
    path = require_file(path, ("",))
    if not path.is_file():
        raise UserError(f"{path}: is neither a file nor a folder; name a DICOM file")
    with decoding(path, "DICOM"):
        return Header(path, _dataset(path, pixels=False))


def layout_of(header: Header, max_megapixels: float, bits: tuple[int, ...] = (8, 16)) -> PixelLayout:
    """How the pixels lie; `UserError` where there are none, where they are not grey integers, or too many.

    ``bits``: how many a pixel may take.
    """
    path = header.path
    if header.value("Rows") is None or header.value("Columns") is None:
        raise UserError(f"{path}: holds no image ({_what(header)}); name an image")
    _require_grey(header)
    allocated = header.whole("BitsAllocated", 1, 64)
    if allocated not in bits:
        allowed = " or ".join(map(str, bits))
        raise UserError(f"{path}: stores {allocated} bits per pixel, expected {allowed}; convert it")
    stored = header.whole("BitsStored", 1, allocated)
    if header.whole("HighBit", 0, 63, default=stored - 1) != stored - 1:
        raise UserError(f"{path}: HighBit is not BitsStored - 1, which the standard no longer allows; convert it")
    layout = PixelLayout(
        frames=header.whole("NumberOfFrames", 1, 2**31, default=1),
        rows=header.whole("Rows", 1, 2**16 - 1),
        columns=header.whole("Columns", 1, 2**16 - 1),
        bits_allocated=allocated,
        bits_stored=stored,
        signed=header.whole("PixelRepresentation", 0, 1) == 1,
        inverted=header.word("PhotometricInterpretation") == "MONOCHROME1",
    )
    pixels = layout.frames * layout.rows * layout.columns
    if pixels > max_megapixels * 1e6:
        raise UserError(
            f"{path}: states {layout.frames} x {layout.rows} x {layout.columns} pixels, more than the limit of"
            f" {max_megapixels:g} million; raise it if the file is trusted"
        )
    return layout


def read_pixels(header: Header, layout: PixelLayout) -> np.ndarray:
    """Stored numbers, ``frames rows columns``, decoded only after their number was found to be what the header says."""
    path = header.path
    size = path.stat().st_size
    if size > 2 * layout.num_bytes + (64 << 20):
        raise UserError(f"{path}: has {size >> 20} MB, and its pixels {layout.num_bytes >> 20} MB; export it again")
    with decoding(path, "DICOM"):
        dataset = _dataset(path, pixels=True)
        decoder = _decoder(dataset, path)
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            _require_codestreams(dataset, layout, path)
        else:
            _require_length(len(dataset.PixelData), layout, path)
            _note_stray_bits(dataset, layout, path)
        try:
            stored, _ = decoder.as_array(dataset, raw=True, allow_excess_frames=False)
        except (RuntimeError, NotImplementedError) as error:
            if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
                raise
            raise UserError(
                f"{path}: {_syntax(dataset)} cannot be decoded: {error}; copy it again, or {CODECS}"
            ) from error
    shape = (layout.frames, layout.rows, layout.columns)
    if stored.size != layout.frames * layout.rows * layout.columns or stored.dtype.kind not in "iu":
        raise UserError(f"{path}: decodes to {stored.shape} {stored.dtype}, expected {shape}; export it again")
    return stored.reshape(shape)


@contextmanager
def collect_warnings(path: Path) -> Iterator[None]:
    """What pydicom warns of while a path is read becomes one `MedWeaveWarning` that names it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    own = [one.message for one in caught if isinstance(one.message, MedWeaveWarning)]
    # Other categories speak to programmers.
    others = [one.message for one in caught if isinstance(one.message, UserWarning) and one.message not in own]
    foreign = list(dict.fromkeys(" ".join(str(message).split()) for message in others))
    for message in own:
        warnings.warn(message, stacklevel=3)
    if foreign:
        more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        warnings.warn(MedWeaveWarning(f"{path}: read, but: {foreign[0]}{more}"), stacklevel=3)


class _Clipped(BufferedReader):
    """A file of which nobody can ask more bytes than it has: Python would make room for them first."""

    def __init__(self, path: Path) -> None:
        super().__init__(FileIO(str(path)))  # pydicom puts the name into messages
        self.size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``size`` bytes; all that is left for a negative number."""
        left = max(0, self.size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _dataset(path: Path, *, pixels: bool) -> Dataset:
    from pydicom import config, dcmread

    with _Clipped(path) as file, config.disable_value_validation():
        start = file.read(_META)
        _require_prefix(start, path)
        if _DEFLATED in start:  # before pydicom inflates it whole, to whatever size
            raise UserError(f"{path}: is deflated as a whole; convert it to Explicit VR Little Endian")
        file.seek(0)
        dataset = dcmread(file, stop_before_pixels=not pixels, specific_tags=wanted_tags())
    if not dataset.file_meta.get("TransferSyntaxUID"):
        raise UserError(f"{path}: states no transfer syntax, so its bytes mean nothing; export it again")
    if pixels and not dataset.get("PixelData"):
        floating = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        found = "floating-point pixels" if floating else "no pixels"
        raise UserError(f"{path}: holds {found}, expected integers in PixelData; export it again")
    return dataset


def _require_prefix(start: bytes, path: Path) -> None:
    if start[_PREAMBLE : _PREAMBLE + 4] == _PREFIX:
        return
    if start[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08"):
        raise UserError(
            f"{path}: looks like DICOM without its preamble (128 bytes and DICM); if it is, mend it with"
            " pydicom.dcmread(path, force=True).save_as(new, enforce_file_format=True)"
        )
    raise UserError(f"{path}: is no DICOM file (no DICM behind the first 128 bytes); name another, or convert it")


def _require_grey(header: Header) -> None:
    said, samples = header.word("PhotometricInterpretation"), header.whole("SamplesPerPixel", 1, 4, default=1)
    if said not in _GREY or samples != 1:
        found = f"{said or 'no PhotometricInterpretation'} with {samples} number{'s' if samples > 1 else ''} per pixel"
        raise UserError(f"{header.path}: holds {found}, expected grey (MONOCHROME1 or MONOCHROME2); convert it")


def _what(header: Header) -> str:
    from pydicom.uid import UID

    kind = header.text("SOPClassUID")
    return (UID(kind).name if kind else "") or header.word("Modality") or "no SOP class"


def _require_length(found: int, layout: PixelLayout, path: Path) -> None:
    expected = layout.num_bytes
    if found < expected:
        raise UserError(
            f"{path}: has {found} bytes of pixels, and its header states {expected} ({layout.frames} x {layout.rows} x"
            f" {layout.columns}, {layout.bits_allocated} bits): cut short, or the header is wrong; copy it again"
        )
    if found - expected >= max(2, min(_EXCESS, expected // layout.frames)):
        raise UserError(
            f"{path}: has {found} bytes of pixels, {found - expected} more than its header states ({layout.frames} x"
            f" {layout.rows} x {layout.columns}); one of them is wrong; export it again"
        )


def _note_stray_bits(dataset: Dataset, layout: PixelLayout, path: Path) -> None:
    """A warning where pixels have bits beyond BitsStored that no sign explains: they are no part of a value.

    PS3.5 8.1.1; old files keep overlays there.
    """
    if layout.bits_stored == layout.bits_allocated or layout.bits_allocated not in (8, 16):
        return
    order = ">" if dataset.is_little_endian is False else "<"
    stored = np.frombuffer(dataset.PixelData[: layout.num_bytes], dtype=f"{order}u{layout.bits_allocated // 8}")
    beyond = stored >> layout.bits_stored
    stray = beyond != 0
    if layout.signed:
        negative = (stored >> (layout.bits_stored - 1)) & 1 == 1
        stray &= ~(negative & (beyond == 2 ** (layout.bits_allocated - layout.bits_stored) - 1))
    if stray.any():
        warnings.warn(
            f"{path.name}: {np.count_nonzero(stray)} pixels have bits beyond BitsStored {layout.bits_stored}, which are"
            " left out (old files keep overlays there); if their values are wrong, so is BitsStored",
            UserWarning,
            stacklevel=2,
        )


def _require_codestreams(dataset: Dataset, layout: PixelLayout, path: Path) -> None:
    """Every frame is there, and states the size that the header states (run lengths state none)."""
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    frames = list(generate_frames(dataset.PixelData, number_of_frames=layout.frames))
    if len(frames) != layout.frames:
        raise UserError(f"{path}: holds {len(frames)} frames, and its header states {layout.frames}; export it again")
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        return
    expected = (layout.rows, layout.columns, 1)
    for frame in frames:
        if (stated := stated_size(frame)) != expected:
            found = "no size" if stated is None else "{} x {} pixels with {} components".format(*stated)
            raise UserError(
                f"{path}: its compressed pixels state {found}, its header {layout.rows} x {layout.columns} with 1;"
                " one of them is wrong; export it again"
            )


def _decoder(dataset: Dataset, path: Path) -> Any:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    except NotImplementedError:
        raise UserError(f"{path}: {_syntax(dataset)} has no pixels that can be decoded; convert it") from None
    if not decoder.is_available:
        raise UserError(f"{path}: is stored as {_syntax(dataset)}, which needs a decoder: {CODECS}")
    return decoder


def _syntax(dataset: Dataset) -> str:
    return str(dataset.file_meta.TransferSyntaxUID.name)
