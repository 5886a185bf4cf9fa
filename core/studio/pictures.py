"""What the page shows of an image: numbers in original units, their place in the patient, and windows."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from core.types import LABEL_UNITS, DataSpec, Geometry

_COLOURS = 3
_SHOWN = 128  # points of a preview along an axis, at most
_LEVELS = 255  # of a preview, between the ends of the value range
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How the page draws an output: ``slices rows columns`` numbers, or with ``colour`` RGB triples from 0 to 255.

    ``aspect``: height of a pixel by its width. ``edges``: the side of the patient at each edge of the picture, empty
    where it is unknown. ``windows``: centre and width by name; the first one is shown.
    """

    shape: tuple[int, int, int]
    units: str
    aspect: float
    edges: dict[str, str] = field(default_factory=dict)
    windows: dict[str, tuple[float, float]] = field(default_factory=dict)
    colour: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the fields for the page."""
        return asdict(self)


def volume_of(canonical: np.ndarray, spec: DataSpec) -> np.ndarray:
    """Return a canonical grid in the units of its modality, float32 ``slice row column``; in colour ``... 3``."""
    low, high = spec.value_range
    if spec.units == LABEL_UNITS:  # a channel for each label but that of nothing
        numbers = np.where(canonical.max(0) > 0, canonical.argmax(0) + 1, 0).astype(np.float32)
        return numbers if numbers.ndim == 3 else numbers[None]
    canonical = np.clip(canonical, -1, 1)  # as files have it
    planes = canonical if canonical.ndim == 4 else canonical[:, None]
    if len(planes) == _COLOURS:
        return np.ascontiguousarray((planes + 1).transpose(1, 2, 3, 0) * 127.5, dtype=np.float32)
    return np.ascontiguousarray(low + (planes[0] + 1) / 2 * (high - low), dtype=np.float32)


Windows = Mapping[str, tuple[float, float]]  # centre and width by name


def picture_of(volume: np.ndarray, spec: DataSpec, windows: Windows | None = None, *, step: int = 1) -> Picture:
    """Return how `volume_of` is drawn, or every so many of its rows and columns (``step``).

    ``windows`` of the modality come before the whole range of its values.
    """
    geometry, (low, high) = spec.default_geometry, spec.value_range
    rows, columns = (1.0, 1.0) if geometry is None else geometry.spacing_mm[-2:]
    height, width = volume[0, ::step, ::step].shape[:2]
    return Picture(
        shape=(len(volume), height, width),
        units=spec.units,
        aspect=rows / columns,
        edges=_edges(geometry),
        windows={**(windows or {}), "all": ((low + high) / 2, float(high - low) or 1.0)},
        colour=volume.ndim == 4,
    )


def preview(canonical: np.ndarray, spec: DataSpec, windows: Windows | None = None) -> dict[str, Any]:
    """Return the middle section of a canonical grid as a small picture of one byte per number, for an event.

    A byte ``b`` stands for ``low + b * step``; the page draws it as it draws the numbers of a finished study.
    """
    volume = volume_of(canonical, spec)
    middle = volume[len(volume) // 2][None]
    stride = max(1, -(-max(middle.shape[1:3]) // _SHOWN))
    low, high = (0.0, 255.0) if middle.ndim == 4 else spec.value_range
    step = (high - low) / _LEVELS or 1.0
    levels = np.clip((middle[:, ::stride, ::stride] - low) / step, 0, _LEVELS).round().astype(np.uint8)
    return {
        "picture": picture_of(middle, spec, windows, step=stride).as_json(),
        "low": low,
        "step": step,
        "bytes": base64.b64encode(np.ascontiguousarray(levels).tobytes()).decode(),
    }


def _edges(geometry: Geometry | None) -> dict[str, str]:
    """Return the side of the patient at each edge: rows run to the last letter but one, columns to the last."""
    if geometry is None or geometry.source_header.get("unplaced"):
        return {}
    down, right = geometry.orientation[-2:]
    return {"top": _OPPOSITE[down], "bottom": down, "left": _OPPOSITE[right], "right": right}
