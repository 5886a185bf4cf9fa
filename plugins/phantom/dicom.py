"""Write the cohort as DICOM studies: both views, whole CT and MRI series, segmentations and report of every patient."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from core.api import PartConfig, UserError
from core.io import (
    DicomRadiographWriterConfig,
    DicomReportWriterConfig,
    DicomSegWriterConfig,
    DicomSeriesWriterConfig,
    TextWriterConfig,
    Window,
    atomic_write,
    finding_segments,
    organ_segments,
)
from plugins.phantom.anatomy.findings import FINDINGS
from plugins.phantom.cohort import read_settings, resolve_settings, write_settings
from plugins.phantom.files import (
    FILES,
    FORMAT,
    PARAMETERS,
    PATIENTS,
    folder_name,
    patient_folder,
    provenance_of,
    write_parameters,
)
from plugins.phantom.imaging.masks import ORGANS
from plugins.phantom.manifest import MANIFEST, split_of
from plugins.phantom.patients import cohort_lock, make_missing, missing_from, remove_unfinished
from plugins.phantom.study import PIXELS, make_study
from plugins.phantom.volume import volumes_of

SETTINGS = "dicom.json"
DICOM_FORMAT = 1  # raise it whenever the same seed would give other files
_WINDOWS = (
    Window(name="soft tissue", centre=40, width=400),
    Window(name="lung", centre=-600, width=1500),
    Window(name="bone", centre=400, width=1800),
)
_COLUMNS = ("study_id", "patient_id", "split", "modality", "file", "labels")


def write_dicom(
    root: Path, out: Path, patients: int, workers: int | None = None, progress: bool = True, seed: int | None = None
) -> None:
    """Write the first ``patients`` of the cohort ``root`` to ``out``; those that are there are left as they are.

    Every body is computed again, so ``root`` need not exist: without it the cohort is that of ``seed``, by default 0.
    A patient is a folder ``patients/0042``, and ``manifest.csv`` has a row per file or series. `UserError`: ``root``
    has another seed or fewer patients, or ``out`` holds something else.
    """
    root, out = Path(root), Path(out)
    cohort = resolve_settings(root, None, seed)
    if patients > cohort["num"]:
        raise UserError(f"{root}: the cohort has {cohort['num']} patients, {patients} were requested; request fewer")
    settings = {"dicom": DICOM_FORMAT, "format": FORMAT, "seed": cohort["seed"], "pixels": PIXELS}
    read_settings(out, SETTINGS, settings, "--out")
    (out / PATIENTS).mkdir(parents=True, exist_ok=True)
    with cohort_lock(out):
        write_settings(out / SETTINGS, settings)
        remove_unfinished(out)
        make_missing(out, patients, partial(write_patient, out, cohort["seed"]), workers, progress)
        _write_table(out, cohort["num"])


def write_patient(out: Path, seed: int, patient: int) -> None:
    """Compute and write a patient, completely or not at all. Every file states its provenance, as generated ones do."""
    study, provenance = make_study(seed, patient), provenance_of(seed, patient)
    samples = {**study.samples, **volumes_of(study, seed, patient)}
    with patient_folder(out, patient) as folder:
        for name, config in _WRITERS.items():
            writer = config.build()
            writer.write(samples[name], folder / f"{name}{writer.suffix}", provenance)
        TextWriterConfig().build().write(samples["text"], folder / FILES["text"], provenance)
        write_parameters(folder, study)


def _mri(number: int) -> DicomSeriesWriterConfig:
    return DicomSeriesWriterConfig(kind="MR", dims=3, body_part_term="CHEST", series_number=number)


# In the order in which they are written: a segmentation refers to the CT, which must be there.
_WRITERS: dict[str, PartConfig] = {
    "xray_frontal": DicomRadiographWriterConfig(view="PA", series_number=201),
    "xray_lateral": DicomRadiographWriterConfig(view="LL", series_number=202),
    "ct": DicomSeriesWriterConfig(
        kind="CT", dims=3, units="HU", windows=_WINDOWS, body_part_term="CHEST", series_number=401
    ),
    "mri_t1": _mri(501),
    "mri_t2": _mri(502),
    "mri_pd": _mri(503),
    "mask_organs": DicomSegWriterConfig(segments=organ_segments(ORGANS), dims=3, source="ct", series_number=601),
    "mask_findings": DicomSegWriterConfig(segments=finding_segments(FINDINGS), dims=3, source="ct", series_number=602),
    "text": DicomReportWriterConfig(series_number=101),
}


def _write_table(out: Path, num: int) -> None:
    """Write a row per file or series of every patient that is there, as the adapter ``manifest`` reads it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    missing = set(missing_from(out, num))
    for patient in range(num):
        if patient not in missing:
            table.writerows(_rows(out, patient))
    with atomic_write(out / MANIFEST, overwrite=True) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _rows(out: Path, patient: int) -> Iterator[tuple[Any, ...]]:
    folder, study = f"{PATIENTS}/{folder_name(patient)}", f"phantom-{folder_name(patient)}"
    labels = json.loads((out / folder / PARAMETERS).read_text(encoding="utf-8"))["labels"]
    present = "|".join(name for name, value in labels.items() if value)
    files = {name: f"{name}{config.build().suffix}" for name, config in _WRITERS.items()}
    files["mri"] = files["mri_t2"]  # as in the cohort
    for name, file in files.items():
        yield study, study, split_of(patient), name, f"{folder}/{file}", present
