"""Read IU X-ray as Open-i publishes it: an XML file per report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from core.api import Record, UserError
from plugins.public_datasets.file_listing import list_names
from plugins.public_datasets.iu_xray.images import (
    PROJECTIONS,
    Key,
    files_by_view,
    find_images,
    image_key,
    join_sections,
    read_views,
)
from plugins.public_datasets.skipped_files import SkippedFiles

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

REPORTS = "ecgen-radiology"
_MAX_BYTES = 1_000_000
_STATED = {"PA": "xray_frontal", "AP": "xray_frontal", "LL": "xray_lateral", "RL": "xray_lateral"}


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per report, by number; all of them training, for there is no official split."""
    skipped, num = SkippedFiles(), 0
    images = find_images(root)
    views = read_views(root / PROJECTIONS) if (root / PROJECTIONS).is_file() else stated_views(images)
    for name in sorted(list_names(root / REPORTS), key=lambda name: (len(name), name)):
        path = root / REPORTS / name
        if path.suffix != ".xml":
            skipped.add(f"files in {REPORTS} that are no XML", path)
            continue
        report = _parse(path)
        files = files_by_view(_image_keys(report, path), images, views, skipped)
        num += len(files)
        text = join_sections(*(_section(report, heading) for heading in ("FINDINGS", "IMPRESSION")))
        if files or text:
            patient, texts = f"CXR{path.stem}", {"text": text} if text else {}
            yield Record(patient=patient, study=patient, files=files, texts=texts, labels=_labels(report))
    if not num:
        raise UserError(
            f"{root}: no image of {REPORTS} is there with its view; put NLMCXR_png and {PROJECTIONS}, or"
            " NLMCXR_dcm, beside it"
        )
    skipped.warn(root)


def stated_views(images: Mapping[Key, Path]) -> dict[Key, str]:
    """Return the modality of every image whose DICOM header states it (View Position, PS3.3 C.8.7.1)."""
    dicom = {key: path for key, path in images.items() if path.suffix == ".dcm"}
    views = {key: _STATED.get(_view_position(path)) for key, path in dicom.items()}
    return {key: view for key, view in views.items() if view}


def _view_position(path: Path) -> str:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that bend the standard; the reader warns of them
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["ViewPosition"])
            return str(header.get("ViewPosition", "")).upper()
    except Exception as error:  # foreign bytes make decoders fail in every way there is
        raise UserError(f"{path}: cannot be read as DICOM: {error}; download it again") from error


def _parse(path: Path) -> Element:
    from xml.etree import ElementTree

    try:
        content = path.read_bytes()
        # The reports declare no document type: one that does could make the parser swell without end.
        if len(content) > _MAX_BYTES or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise UserError(f"{path}: is no report of Open-i (too large, or declares entities); download it again")
        return ElementTree.fromstring(content)  # noqa: S314 - no entities, see above
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: cannot be read as XML: {error}; download it again") from error


def _image_keys(report: Element, path: Path) -> list[Key]:
    names = [image.get("id", "") for image in report.iter("parentImage")]
    wrong = next((name for name in names if image_key(name) is None), None)
    if wrong is not None:
        raise UserError(f"{path}: parentImage has the id '{wrong}', expected one like CXR1_1_IM-0001-4001")
    return [key for name in names if (key := image_key(name))]


def _section(report: Element, heading: str) -> str:
    return " ".join(part.text or "" for part in report.iter("AbstractText") if part.get("Label") == heading)


def _labels(report: Element) -> dict[str, int]:
    """Return the main headings of MeSH, which end at the first ``/``."""
    headings = (major.text or "" for mesh in report.iter("MeSH") for major in mesh.iter("major"))
    return {name: 1 for heading in headings if (name := heading.split("/")[0].strip())}
