"""The size that a compressed frame states itself, before a decoder makes room for it."""

from __future__ import annotations

import struct

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
