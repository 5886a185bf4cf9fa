"""IU X-ray as Open-i publishes it: an XML file per report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from core.api import Record, UserError
from plugins.public_datasets.file_listing import names_in
from plugins.public_datasets.iu_xray.tables import PROJECTIONS, Key, files_of, images_below, key_of, report_of, views_of
from plugins.public_datasets.skipped_files import Omissions

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

REPORTS = "ecgen-radiology"
_MAX_BYTES = 1_000_000
_STATED = {"PA": "xray_frontal", "AP": "xray_frontal", "LL": "xray_lateral", "RL": "xray_lateral"}


def scan(root: Path) -> Iterator[Record]:
    """A record per report, by number; all of them training, for there is no official split."""
    omitted, num = Omissions(), 0
    images = images_below(root)
    views = views_of(root / PROJECTIONS) if (root / PROJECTIONS).is_file() else stated_views(images)
    for name in sorted(names_in(root / REPORTS), key=lambda name: (len(name), name)):
        path = root / REPORTS / name
        if path.suffix != ".xml":
            omitted.add(f"files in {REPORTS} that are no XML", path)
            continue
        report = _parsed(path)
        files = files_of(_images_of(report, path), images, views, omitted)
        num += len(files)
        text = report_of(*(_section(report, heading) for heading in ("FINDINGS", "IMPRESSION")))
        if files or text:
            patient, texts = f"CXR{path.stem}", {"text": text} if text else {}
            yield Record(patient=patient, study=patient, files=files, texts=texts, labels=_labels(report))
    if not num:
        raise UserError(
            f"{root}: not one image of {REPORTS} is there with its view; put NLMCXR_png and {PROJECTIONS}, or"
            " NLMCXR_dcm, beside it"
        )
    omitted.tell(root)


def stated_views(images: Mapping[Key, Path]) -> dict[Key, str]:
    """Image to modality as its DICOM header says (View Position, PS3.3 C.8.7.1); a picture says nothing."""
    dicom = {key: path for key, path in images.items() if path.suffix == ".dcm"}
    found = {key: _STATED.get(_view_position(path)) for key, path in dicom.items()}
    return {key: view for key, view in found.items() if view}


def _view_position(path: Path) -> str:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that bend the standard; the reader tells of them
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["ViewPosition"])
            return str(header.get("ViewPosition", "")).upper()
    except Exception as error:  # foreign bytes make decoders fail in every way there is
        raise UserError(f"{path}: cannot be read as DICOM: {error}; download it again") from error


def _parsed(path: Path) -> Element:
    from xml.etree import ElementTree

    try:
        content = path.read_bytes()
        # The reports declare no document type: one that does could make the parser swell without end.
        if len(content) > _MAX_BYTES or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise UserError(f"{path}: is no report of Open-i (too large, or declares entities); download it again")
        return ElementTree.fromstring(content)  # noqa: S314 - no entities, see above
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: cannot be read as XML: {error}; download it again") from error


def _images_of(report: Element, path: Path) -> list[Key]:
    names = [image.get("id", "") for image in report.iter("parentImage")]
    wrong = next((name for name in names if key_of(name) is None), None)
    if wrong is not None:
        raise UserError(f"{path}: parentImage has the id '{wrong}', expected one like CXR1_1_IM-0001-4001")
    return [key for name in names if (key := key_of(name))]


def _section(report: Element, heading: str) -> str:
    return " ".join(part.text or "" for part in report.iter("AbstractText") if part.get("Label") == heading)


def _labels(report: Element) -> dict[str, int]:
    """The main headings of MeSH: what stands before the first ``/``."""
    headings = (major.text or "" for mesh in report.iter("MeSH") for major in mesh.iter("major"))
    return {name: 1 for heading in headings if (name := heading.split("/")[0].strip())}
