"""Find the DICOM series below a folder by their headers alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugins.public_datasets.file_listing import walk_folders
from plugins.public_datasets.skipped_files import SkippedFiles

_TAGS = [
    *("Modality", "PatientID", "SeriesInstanceUID", "SeriesDescription", "FrameOfReferenceUID", "ImageType"),
    *("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "EchoTime", "RepetitionTime"),
    "ContrastBolusAgent",
]
_SUFFIXES = ("", ".dcm", ".dicom", ".ima")
_SHORT_TE_MS, _LONG_TE_MS, _SHORT_TR_MS = 30.0, 60.0, 1000.0  # a spin echo's T1 and T2 weighting


@dataclass(frozen=True, kw_only=True)
class Series:
    """Describe a series of images. ``path`` is its folder where that holds nothing else, else its middle file."""

    modality: str
    patient: str
    frame: str
    description: str
    contrast: str
    path: Path
    num_files: int


@dataclass(frozen=True, kw_only=True)
class _Instance:
    """Hold what a header states, as plain values: pydicom converts late, and foreign bytes fail only then."""

    path: Path
    series: str
    modality: str
    patient: str
    frame: str
    description: str
    contrast: str
    position: float
    localizer: bool


def iter_series(root: Path, skipped: SkippedFiles) -> Iterator[Series]:
    """Yield every CT and MR series, folder by folder, in the order of their middle files' names.

    A series consists of the files in a folder that share a Series Instance UID (PS3.3 C.7.3.1). Localizers, and files
    that are no image or no DICOM, are skipped and counted.
    """
    for folder, names in walk_folders(root):
        groups: dict[str, list[_Instance]] = {}
        for name in names:
            instance = _instance(folder / name, skipped) if Path(name).suffix.lower() in _SUFFIXES else None
            if instance is not None:
                groups.setdefault(instance.series, []).append(instance)
        # A folder that holds anything else, say delineations, is not handed to a reader as one series.
        exclusive = folder if [len(group) for group in groups.values()] == [len(names)] else None
        yield from sorted((_series(group, exclusive) for group in groups.values()), key=lambda series: series.path.name)


def modalities_of(series: Series) -> tuple[str, ...]:
    """Return ``ct``; or ``mri``, with the modality of its contrast where the header states that."""
    if series.modality == "CT":
        return ("ct",)
    return ("mri", f"mri_{series.contrast}") if series.contrast else ("mri",)


def _instance(path: Path, skipped: SkippedFiles) -> _Instance | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that bend the standard; the reader warns of them
            instance = _read_header(path)
    except Exception:  # foreign bytes make decoders fail in every way there is
        skipped.add("files that are no DICOM", path)
        return None
    if instance.modality not in ("CT", "MR"):
        skipped.add(f"files of the modality {instance.modality[:16]!r}", path)
    elif instance.localizer:
        skipped.add("localizers", path)
    else:
        return instance
    return None


def _read_header(path: Path) -> _Instance:
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


def _series(group: list[_Instance], folder: Path | None) -> Series:
    """Return the series of these instances; ``folder`` is its own, ``None`` where it shares one."""
    ordered = sorted(group, key=lambda instance: (instance.position, instance.path.name))
    middle = ordered[len(ordered) // 2]
    return Series(
        modality=middle.modality,
        patient=middle.patient,
        frame=middle.frame,
        description=middle.description,
        contrast=middle.contrast,
        path=folder or middle.path,
        num_files=len(group),
    )


def contrast_of(header: Any) -> str:
    """Return ``flair``, ``t1c``, ``t1``, ``t2`` or ``pd`` by description, or echo and repetition time; else ``""``."""
    description = str(header.get("SeriesDescription", "")).upper()
    if "FLAIR" in description:
        return "flair"
    agent = bool(header.get("ContrastBolusAgent")) or bool(re.search(r"\+C\b|\bPOST|\bGD\b|\bGAD", description))
    named = re.search(r"(?<![A-Z])(T1|T2|PD)(?![0-9*])", description)
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
    """Return the position along the slice normal, mm (PS3.3 C.7.6.2.1); the instance number where there is none."""
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
