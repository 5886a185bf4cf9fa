"""DICOM series below a folder, told apart by their headers alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugins.collections.listing import folders_in
from plugins.collections.omissions import Omissions

_TAGS = [
    *("Modality", "PatientID", "SeriesInstanceUID", "SeriesDescription", "FrameOfReferenceUID", "ImageType"),
    *("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "EchoTime", "RepetitionTime"),
    "ContrastBolusAgent",
]
_SUFFIXES = ("", ".dcm", ".dicom", ".ima")
_SHORT_TE_MS, _LONG_TE_MS, _SHORT_TR_MS = 30.0, 60.0, 1000.0  # a spin echo's T1 and T2 weighting


@dataclass(frozen=True, kw_only=True)
class Series:
    """One series of images. ``path``: its folder where it is alone there, else its middle file."""

    modality: str
    patient: str
    frame: str
    description: str
    contrast: str
    path: Path
    num_files: int


def series_below(root: Path, omitted: Omissions) -> Iterator[Series]:
    """Every CT and MR series, folder by folder, in the order of their middle files' names.

    A series is one folder's files of one Series Instance UID (PS3.3 C.7.3.1). Localizers are left out and counted,
    and so is what is no image, or no DICOM.
    """
    for folder, names in folders_in(root):
        groups: dict[str, list[tuple[Path, Any]]] = {}
        for name in names:
            header = _header(folder / name, omitted) if Path(name).suffix.lower() in _SUFFIXES else None
            if header is not None:
                groups.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((folder / name, header))
        # A folder that holds anything else, say delineations, is not handed to a reader as one series.
        alone = folder if [len(group) for group in groups.values()] == [len(names)] else None
        found = [_series(group, alone) for group in groups.values()]
        yield from sorted(found, key=lambda series: series.path.name)


def modalities_of(series: Series) -> tuple[str, ...]:
    """``ct``; or ``mri``, with its contrast where the header tells it."""
    if series.modality == "CT":
        return ("ct",)
    return ("mri", f"mri_{series.contrast}") if series.contrast else ("mri",)


def _header(path: Path, omitted: Omissions) -> Any:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that bend the standard; the reader tells of them
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            kind = str(header.get("Modality", ""))
            localizer = "LOCALIZER" in (header.get("ImageType") or ())
    except Exception:  # foreign bytes make decoders fail in every way there is
        omitted.add("files that are no DICOM", path)
        return None
    if kind not in ("CT", "MR"):
        omitted.add(f"files of the modality '{kind}'", path)
        return None
    if localizer:
        omitted.add("localizers", path)
        return None
    return header


def _series(group: list[tuple[Path, Any]], alone: Path | None) -> Series:
    ordered = sorted(group, key=lambda pair: (_position(pair[1]), pair[0].name))
    middle, header = ordered[len(ordered) // 2]
    return Series(
        modality=str(header.Modality),
        patient=str(header.get("PatientID", "")).strip(),
        frame=str(header.get("FrameOfReferenceUID", "")),
        description=str(header.get("SeriesDescription", "")).strip(),
        contrast=contrast_of(header),
        path=alone or middle,
        num_files=len(group),
    )


def contrast_of(header: Any) -> str:
    """``flair``, ``t1c``, ``t1``, ``t2`` or ``pd`` as description or echo and repetition time tell; else ``""``."""
    told = str(header.get("SeriesDescription", "")).upper()
    if "FLAIR" in told:
        return "flair"
    agent = bool(header.get("ContrastBolusAgent")) or bool(re.search(r"\+C\b|\bPOST|\bGD\b|\bGAD", told))
    named = re.search(r"(?<![A-Z])(T1|T2|PD)(?![0-9*])", told)
    weighting = named[1].lower() if named else _weighting(header)
    return "t1c" if weighting == "t1" and agent else weighting


def _weighting(header: Any) -> str:
    te, tr = (_number(header.get(name)) for name in ("EchoTime", "RepetitionTime"))
    if te is None or tr is None:
        return ""
    if te <= _SHORT_TE_MS:
        return "t1" if tr <= _SHORT_TR_MS else "pd"
    return "t2" if te >= _LONG_TE_MS and tr > _SHORT_TR_MS else ""


def _position(header: Any) -> float:
    """Place along the normal, mm (PS3.3 C.7.6.2.1); the instance's number where there is none."""
    try:
        x, y, z = (float(value) for value in header.ImagePositionPatient)
        a, b, c, d, e, f = (float(value) for value in header.ImageOrientationPatient)
    except (AttributeError, TypeError, ValueError):
        return _number(header.get("InstanceNumber")) or 0.0
    return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d)


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
