"""Grey pixels: how they are stored, their stored numbers, and from these to values in the order of PS3.4 N.2.

Pixels that lie plainly in a file are taken from its bytes as they are; pydicom decodes all others, after the size that
a compressed frame itself states was compared with the header. Modality transformation, values of interest and polarity
(MONOCHROME1) follow.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import MedWeaveWarning, UserError
from core.io.dicom.header import Header
from core.io.dicom.instance import DicomFile, stated_size
from core.io.files import decoding

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CODECS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
_GREY = ("MONOCHROME1", "MONOCHROME2")
_EXCESS = 4096  # bytes of padding behind pixels that some archives write
_PIXEL_NUMBERS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")
_LARGEST_VALUE = 1e30  # beyond it float32 ends


@dataclass(frozen=True)
class PixelLayout:
    """Describe how the pixels of an instance are stored (PS3.3 C.7.6.3)."""

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


def layout_of(header: Header, max_megapixels: float, bits: tuple[int, ...] = (8, 16)) -> PixelLayout:
    """Return how the pixels are stored; `UserError` where there are none, no grey integers, or too many.

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
    """Return stored numbers, ``frames rows columns``, perhaps read-only.

    They are decoded only after their number was found to be what the header says. The file's bytes are released.
    """
    path, file = header.path, header.file or DicomFile(header.path)
    size = path.stat().st_size
    if size > 2 * layout.num_bytes + (64 << 20):
        raise UserError(f"{path}: has {size >> 20} MB, and its pixels {layout.num_bytes >> 20} MB; export it again")
    with decoding(path, "DICOM"):
        plain = file.plain_pixels(layout.num_bytes) if _is_plain(header) else None
        stored = _decoded(file, layout) if plain is None else _as_stored(plain, layout, path)
    file.release()
    shape = (layout.frames, layout.rows, layout.columns)
    if stored.size != layout.frames * layout.rows * layout.columns or stored.dtype.kind not in "iu":
        raise UserError(f"{path}: decodes to {stored.shape} {stored.dtype}, expected {shape}; export it again")
    return stored.reshape(shape)


def _as_stored(pixels: memoryview, layout: PixelLayout, path: Path) -> np.ndarray:
    """Return plain pixels as numbers without the bits beyond BitsStored, as pydicom does."""
    stored = np.frombuffer(pixels, dtype=f"<{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}")
    unused = layout.bits_allocated - layout.bits_stored
    if not unused:
        return stored
    _warn_of_stray_bits(pixels, layout, path, "<")
    return np.right_shift(np.left_shift(stored, unused), unused)


def _decoded(file: DicomFile, layout: PixelLayout) -> np.ndarray:
    path, dataset = file.path, file.parse(pixels=True)
    decoder = _decoder(dataset, path)
    is_encapsulated = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if is_encapsulated:
        _require_codestreams(dataset, layout, path)
    else:
        _require_length(len(dataset.PixelData), layout, path)
        order = ">" if dataset.is_little_endian is False else "<"
        _warn_of_stray_bits(dataset.PixelData[: layout.num_bytes], layout, path, order)
    try:
        return decoder.as_array(dataset, raw=True, allow_excess_frames=False)[0]
    except (RuntimeError, NotImplementedError) as error:
        if not is_encapsulated:
            raise
        raise UserError(f"{path}: {_syntax(dataset)} cannot be decoded: {error}; copy it again, or {CODECS}") from error


@dataclass(frozen=True, eq=False)
class ModalityTransform:
    """The modality transformation (PS3.3 C.11.1): ``apply`` gives float64, ``limits`` is where its results can lie."""

    apply: Callable[[np.ndarray], np.ndarray]
    limits: tuple[float, float]
    stated: bool


@dataclass(frozen=True, eq=False)
class LookupTable:
    """A look-up table (PS3.3 C.11.1.1, C.11.2.1.1): the first entry is that of ``first``, both ends go on."""

    first: int
    entries: np.ndarray
    bits: int

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return the entries of whole numbers."""
        return self.entries[np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)]


def modality_of(header: Header, layout: PixelLayout, macro: Header | None = None) -> ModalityTransform:
    """Return the transformation that a header states, else the identity. ``macro``: where a frame states its own."""
    source = header if macro is None else macro
    if tables := source.items("ModalityLUTSequence"):
        table = lookup_table(tables[0], layout)
        return ModalityTransform(table.apply, (0.0, float(2**table.bits - 1)), stated=True)
    slope, intercept = source.number("RescaleSlope"), source.number("RescaleIntercept")
    if (slope is None) != (intercept is None):
        raise UserError(f"{header.path}: states only one of RescaleSlope and RescaleIntercept; export it again")
    if slope is None or intercept is None:
        return ModalityTransform(lambda stored: stored.astype(np.float64), layout.limits, stated=False)
    ends = sorted(slope * end + intercept for end in layout.limits)
    if slope == 0 or max(map(abs, ends)) > _LARGEST_VALUE:
        raise UserError(f"{header.path}: RescaleSlope {slope:g} with intercept {intercept:g} is none; export it again")
    return ModalityTransform(lambda stored: stored * slope + intercept, (ends[0], ends[1]), stated=True)


def interest_of(header: Header, layout: PixelLayout, choice: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the ``choice``-th table or window (PS3.3 C.11.2): modality values to [0, 1]; ``None`` without one.

    A table goes before a window, as most viewers have it; both are alternatives.
    """
    tables = header.items("VOILUTSequence")
    centres, widths = header.numbers("WindowCenter") or (), header.numbers("WindowWidth") or ()
    if len(centres) != len(widths):
        raise UserError(f"{header.path}: {len(centres)} window centres and {len(widths)} widths; export it again")
    num = len(tables) or len(centres)
    if num == 0:
        return None
    if choice >= num:
        raise UserError(f"{header.path}: states {num} windows, voi_index is {choice}; choose 0 to {num - 1}")
    if tables:
        table = lookup_table(tables[choice], layout)
        return lambda values: table.apply(values) / (2**table.bits - 1)
    return _window(centres[choice], widths[choice], header)


def lookup_table(item: Header, layout: PixelLayout) -> LookupTable:
    """Return a look-up table; `UserError` where its data are fewer than it states."""
    stated = item.numbers("LUTDescriptor", 3)
    if stated is None:
        raise UserError(f"{item.path}: a look-up table has no LUTDescriptor; export it again")
    num, first, bits = int(stated[0]) or 2**16, int(stated[1]), int(stated[2])
    if layout.signed and first >= 2**15:
        first -= 2**16  # written as unsigned
    data = item.value("LUTData")
    if isinstance(data, bytes):
        narrow = bits == 8 and len(data) in (num, num + num % 2)  # two entries in a word
        order = "<" if item.dataset.is_little_endian is not False else ">"
        entries = np.frombuffer(data[: len(data) // 2 * 2], dtype="u1" if narrow else f"{order}u2")
    else:
        entries = np.atleast_1d(np.asarray(() if data is None else data, dtype=np.float64))
    if not (1 <= num <= 2**16 and 8 <= bits <= 16) or len(entries) < num or entries.max() >= 2**bits:
        raise UserError(f"{item.path}: a look-up table of {num} entries of {bits} bits has others; export it again")
    return LookupTable(first, entries[:num].astype(np.float64), bits)


def is_padding(stored: np.ndarray, header: Header, layout: PixelLayout) -> np.ndarray | None:
    """Return where pixels measure nothing (PS3.3 C.7.5.1.1.2), bool in the shape of ``stored``; ``None``: nowhere."""
    first, last = stored_number(header, "PixelPaddingValue", layout), None
    if first is None:
        return None
    last = stored_number(header, "PixelPaddingRangeLimit", layout)
    low, high = sorted((first, first if last is None else last))
    inside = (stored >= low) & (stored <= high)
    return inside if inside.any() else None


def stored_number(header: Header, keyword: str, layout: PixelLayout) -> int | None:
    """Return a number in the representation of the pixels. Files write it signed or unsigned without regard to that."""
    raw = header.value(keyword)
    if raw is None:
        return None
    if isinstance(raw, bytes):  # Implicit VR leaves open which of the two it is
        number = int.from_bytes(raw[:2], "little" if header.dataset.is_little_endian is not False else "big")
    else:
        number = header.whole(keyword, -(2**15), 2**16 - 1)
    number %= 2**layout.bits_allocated
    return number - 2**layout.bits_allocated if layout.signed and number >= 2 ** (layout.bits_allocated - 1) else number


def _window(centre: float, width: float, header: Header) -> Callable[[np.ndarray], np.ndarray]:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, output [0, 1]."""
    kind = header.word("VOILUTFunction") or "LINEAR"
    least = {"LINEAR": 1.0, "LINEAR_EXACT": 1e-9, "SIGMOID": 1e-9}
    if kind not in least or width < least[kind]:
        raise UserError(
            f"{header.path}: a window {kind} of width {width:g}; known are LINEAR (width 1 or more), LINEAR_EXACT and"
            ' SIGMOID (above 0); set voi = "ignore" to do without'
        )
    if kind == "SIGMOID":
        return lambda values: 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if kind == "LINEAR":
        if width == 1:
            return lambda values: (values > centre - 0.5).astype(np.float64)
        centre, width = centre - 0.5, width - 1
    return lambda values: np.clip((values - centre) / width + 0.5, 0, 1)


def _require_grey(header: Header) -> None:
    interpretation, samples = header.word("PhotometricInterpretation"), header.whole("SamplesPerPixel", 1, 4, default=1)
    if interpretation not in _GREY or samples != 1:
        numbers = f"{samples} number{'s' if samples > 1 else ''} per pixel"
        content = f"{interpretation or 'no PhotometricInterpretation'} with {numbers}"
        raise UserError(f"{header.path}: holds {content}, expected grey (MONOCHROME1 or MONOCHROME2); convert it")


def _what(header: Header) -> str:
    from pydicom.uid import UID

    kind = header.text("SOPClassUID")
    return (UID(kind).name if kind else "") or header.word("Modality") or "no SOP class"


def _is_plain(header: Header) -> bool:
    """Return whether pydicom would take the pixels as they are: the header has the numbers it needs, as integers."""
    dataset = header.dataset
    numbers = [header.value(keyword) for keyword in _PIXEL_NUMBERS]
    if "NumberOfFrames" in dataset:
        numbers.append(header.value("NumberOfFrames"))
    return (
        all(isinstance(number, int) for number in numbers)
        and header.value("BitsAllocated") in (8, 16)
        and header.value("PhotometricInterpretation") in _GREY
    )


def _require_length(num_bytes: int, layout: PixelLayout, path: Path) -> None:
    expected = layout.num_bytes
    if num_bytes < expected:
        raise UserError(
            f"{path}: has {num_bytes} bytes of pixels, and its header states {expected} ({layout.frames} x"
            f" {layout.rows} x {layout.columns}, {layout.bits_allocated} bits): cut short, or the header is wrong;"
            " copy it again"
        )
    if num_bytes - expected >= max(2, min(_EXCESS, expected // layout.frames)):
        raise UserError(
            f"{path}: has {num_bytes} bytes of pixels, {num_bytes - expected} more than its header states"
            f" ({layout.frames} x {layout.rows} x {layout.columns}); one of them is wrong; export it again"
        )


def _warn_of_stray_bits(pixels: bytes | memoryview, layout: PixelLayout, path: Path, order: str) -> None:
    """Warn where pixels have bits beyond BitsStored that no sign explains: they are no part of a value.

    PS3.5 8.1.1; old files keep overlays there.
    """
    if layout.bits_stored == layout.bits_allocated or layout.bits_allocated not in (8, 16):
        return
    stored = np.frombuffer(pixels, dtype=f"{order}u{layout.bits_allocated // 8}")
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
            size = "no size" if stated is None else "{} x {} pixels with {} components".format(*stated)
            raise UserError(
                f"{path}: its compressed pixels state {size}, its header {layout.rows} x {layout.columns} with 1;"
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


def with_display_polarity(share: np.ndarray, header: Header, layout: PixelLayout) -> np.ndarray:
    """Return fractions of the range, bright where values are large: those of MONOCHROME1 are inverted, after windowing.

    The photometric interpretation decides; a Presentation LUT Shape (2050,0020) that contradicts it is a warning.
    """
    shape = header.word("PresentationLUTShape")
    if shape and (shape == "INVERSE") != layout.inverted:
        interpretation = header.word("PhotometricInterpretation")
        warnings.warn(
            MedWeaveWarning(
                f"{header.path}: says {interpretation} and PresentationLUTShape {shape}; {interpretation} is used"
            ),
            stacklevel=2,
        )
    return 1 - share if layout.inverted else share
