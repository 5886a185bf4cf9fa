"""From stored numbers to values, in the order of PS3.4 N.2: modality transformation, values of interest, polarity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.errors import UserError
from core.io.dicom.header import Header
from core.io.dicom.instance import PixelLayout

_LARGEST_VALUE = 1e30  # beyond it float32 ends


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
        """The entries of whole numbers."""
        return self.entries[np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)]


def modality_of(header: Header, layout: PixelLayout, macro: Header | None = None) -> ModalityTransform:
    """The transformation that a header states, or that does nothing. ``macro``: where a frame states its own."""
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
    """The ``choice``-th table or window (PS3.3 C.11.2): modality values to [0, 1]. ``None`` where none is stated.

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
    """A look-up table; `UserError` where its data are fewer than it states."""
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
    """Where pixels stand for no measurement (PS3.3 C.7.5.1.1.2), bool in the shape of ``stored``; ``None``: nowhere."""
    first, last = stored_number(header, "PixelPaddingValue", layout), None
    if first is None:
        return None
    last = stored_number(header, "PixelPaddingRangeLimit", layout)
    low, high = sorted((first, first if last is None else last))
    found = (stored >= low) & (stored <= high)
    return found if found.any() else None


def stored_number(header: Header, keyword: str, layout: PixelLayout) -> int | None:
    """A number in the representation of the pixels. Files write it signed or unsigned without regard to that."""
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
