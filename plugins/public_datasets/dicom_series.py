"""DICOM series below a folder, told apart by their headers alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugins.public_datasets.file_listing import folders_in
from plugins.public_datasets.skipped_files import Omissions

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


@dataclass(frozen=True, kw_only=True)
class _Instance:
    """What one header tells, in plain values: pydicom converts late, and foreign bytes fail only then."""

    path: Path
    series: str
    modality: str
    patient: str
    frame: str
    description: str
    contrast: str
    position: float
    localizer: bool


def series_below(root: Path, omitted: Omissions) -> Iterator[Series]:
    """Every CT and MR series, folder by folder, in the order of their middle files' names.

    A series is one folder's files of one Series Instance UID (PS3.3 C.7.3.1). Localizers are left out and counted,
    and so is what is no image, or no DICOM.
    """
    for folder, names in folders_in(root):
        groups: dict[str, list[_Instance]] = {}
        for name in names:
            found = _instance(folder / name, omitted) if Path(name).suffix.lower() in _SUFFIXES else None
            if found is not None:
                groups.setdefault(found.series, []).append(found)
        # A folder that holds anything else, say delineations, is not handed to a reader as one series.
        alone = folder if [len(group) for group in groups.values()] == [len(names)] else None
        yield from sorted((_series(group, alone) for group in groups.values()), key=lambda series: series.path.name)


def modalities_of(series: Series) -> tuple[str, ...]:
    """``ct``; or ``mri``, with its contrast where the header tells it."""
    if series.modality == "CT":
        return ("ct",)
    return ("mri", f"mri_{series.contrast}") if series.contrast else ("mri",)


def _instance(path: Path, omitted: Omissions) -> _Instance | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that bend the standard; the reader tells of them
            found = _read(path)
    except Exception:  # foreign bytes make decoders fail in every way there is
        omitted.add("files that are no DICOM", path)
        return None
    if found.modality not in ("CT", "MR"):
        omitted.add(f"files of the modality {found.modality[:16]!r}", path)
    elif found.localizer:
        omitted.add("localizers", path)
    else:
        return found
    return None


def _read(path: Path) -> _Instance:
    import pydicom

    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    modality, patient, series, frame, description = (
        str(header.get(name, "")).strip()
        for name in ("Modality", "PatientID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesDescription")
    )
    return _Instance(
        path=path,
        series=series,
        modality=modality,
        patient=patient,
        frame=frame,
        description=description,
        contrast=contrast_of(header),
        position=_position(header),
        localizer="LOCALIZER" in (header.get("ImageType") or ()),
    )


def _series(group: list[_Instance], alone: Path | None) -> Series:
    ordered = sorted(group, key=lambda one: (one.position, one.path.name))
    middle = ordered[len(ordered) // 2]
    return Series(
        modality=middle.modality,
        patient=middle.patient,
        frame=middle.frame,
        description=middle.description,
        contrast=middle.contrast,
        path=alone or middle.path,
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
