"""Read the numbers that generated a patient's body, from the parameter file next to the images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.api import Record
from plugins.phantom.files import PARAMETERS

_PAIRS = {"dome_z": ("right_dome_z", "left_dome_z"), "shift": ("shift_x", "shift_z")}


def measurements_of(record: Record) -> dict[str, float]:
    """Return the measurements of a patient by name, mm or ratios: anatomy, heart size, level of the slice.

    Empty for reports without images.
    """
    file = next((files[0] for files in record.files.values() if files), None)
    path = file.with_name(PARAMETERS) if isinstance(file, Path) else None
    if path is None or not path.is_file():
        return {}
    return _measurements(json.loads(path.read_text(encoding="utf-8")))


def _measurements(parameters: Mapping[str, Any]) -> dict[str, float]:
    anatomy = {**parameters["anatomy"]}
    measured = {"female": float(anatomy.pop("sex") == "female"), "level_z": float(parameters["slice"]["z_mm"])}
    for name, sides in _PAIRS.items():
        measured |= dict(zip(sides, map(float, anatomy.pop(name)), strict=True))
    measured |= {name: float(value) for name, value in anatomy.items()}
    return {**measured, "heart_scale": float(parameters["heart_scale"])}  # with cardiomegaly, if present
