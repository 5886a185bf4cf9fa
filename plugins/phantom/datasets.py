"""The data set ``phantom``, as its adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from core.api import DatasetAdapter, Record

MODALITIES = (
    *("text", "xray_frontal", "xray_lateral", "ct", "mri", "mri_t1", "mri_t2", "mri_pd"),
    *("mask_organs", "mask_findings"),
)


def scan(root: Path) -> Iterator[Record]:
    """Yield the records; see `plugins.phantom.manifest.scan`, imported late, so that registering costs nothing."""
    from plugins.phantom.manifest import scan as records

    return records(root)


def make(
    root: Path, num: int | None = None, seed: int | None = None, workers: int | None = None, progress: bool = True
) -> None:
    """Compute the cohort; see `plugins.phantom.cohort.make_cohort`."""
    from plugins.phantom.cohort import make_cohort

    make_cohort(root, num, seed, workers, progress)


def write_dicom(
    root: Path, out: Path, patients: int, workers: int | None = None, progress: bool = True, seed: int | None = None
) -> None:
    """Write patients as DICOM; see `plugins.phantom.dicom.write_dicom`."""
    from plugins.phantom.dicom import write_dicom as write

    write(root, out, patients, workers, progress, seed)


def findings_of(text: str) -> dict[str, int]:
    """Return the findings that a report states; see `plugins.phantom.report.reading.read_report`."""
    from plugins.phantom.report.reading import read_report

    return {name: int(statement.present) for name, statement in read_report(text).items()}


def details_of(text: str) -> dict[str, int]:
    """Return the sides and grades that a report states; see `plugins.phantom.report.reading.read_details`."""
    from plugins.phantom.report.reading import read_details

    return read_details(text)


def measurements_of(record: Record) -> dict[str, float]:
    """Return the numbers that generated a patient's body; see `plugins.phantom.measurements.measurements_of`."""
    from plugins.phantom.measurements import measurements_of as read

    return read(record)


PHANTOM = DatasetAdapter(
    name="phantom",
    title="Computed torsos with known findings",
    modalities=MODALITIES,
    licence="Apache-2.0",
    weights_may_be_shared=True,
    citation="MedWeave",
    scan=scan,
    make=make,
    dicom=write_dicom,
    findings_of=findings_of,
    details_of=details_of,
    measurements_of=measurements_of,
)
