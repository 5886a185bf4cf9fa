"""Display windows: what a screen shows of a wider range of values."""

from __future__ import annotations

from core.types import DataSpec

_HU = "HU"
# Centre and width in HU, as viewers have them.
_WINDOWS_HU = {
    "soft tissue": (40.0, 400.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "bone": (400.0, 1800.0),
}


def windows_of(spec: DataSpec) -> dict[str, tuple[float, float]]:
    """Return the usual windows of data in HU, centre and width by name; none for other units.

    A window whose centre lies outside the range of the data is left out.
    """
    if spec.units != _HU:
        return {}
    low, high = spec.value_range
    return {name: (centre, width) for name, (centre, width) in _WINDOWS_HU.items() if low <= centre <= high}
