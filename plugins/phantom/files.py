"""One patient's files: a folder that appears whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.api import Provenance
from core.io import ImageWriterConfig, NiftiWriterConfig, TextWriterConfig
from plugins.phantom.study import Study

PATIENTS = "patients"
PARAMETERS = "patient.json"
PART = ".part-"  # how the name of an unfinished folder begins
FORMAT = 1  # raise it whenever the same seed would give other files

FILES = {
    "text": "report.txt",
    "xray_frontal": "xray_frontal.png",
    "xray_lateral": "xray_lateral.png",
    "ct": "ct.nii.gz",
    "mri": "mri_t2.nii.gz",
    "mri_t1": "mri_t1.nii.gz",
    "mri_t2": "mri_t2.nii.gz",
    "mri_pd": "mri_pd.nii.gz",
}
MASKS = {"organs": "organs.nii.gz", "findings": "findings.nii.gz"}


def mask_column(name: str) -> str:
    """The column of the manifest, and the modality, of a mask: ``mask_organs``."""
    return f"mask_{name}"


def folder_name(patient: int) -> str:
    """``0042``."""
    return f"{patient:04d}"


def write_study(root: Path, seed: int, patient: int, study: Study) -> None:
    """Write all files of a patient, or none."""
    told = provenance_of(seed, patient)
    with patient_folder(root, patient) as folder:
        for name, sample in study.samples.items():
            _writer(name).write(sample, folder / FILES[name], told)
        for name, mask in study.masks.items():
            _writer(name).write(mask, folder / MASKS[name], told)
        write_parameters(folder, study)


def provenance_of(seed: int, patient: int) -> Provenance:
    """What every file of a patient says of itself, whatever its format."""
    return Provenance(model=f"phantom {FORMAT}", recipe="computed body", seed=seed, index=patient)


def write_parameters(folder: Path, study: Study) -> None:
    """Write every generating number, and the labels."""
    about = {**study.parameters, "labels": dict(study.labels)}
    (folder / PARAMETERS).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


@contextmanager
def patient_folder(root: Path, patient: int) -> Iterator[Path]:
    """A folder to write into, which is renamed when the block ends well; a kill leaves nothing under the final name."""
    home = root / PATIENTS
    beside = Path(tempfile.mkdtemp(prefix=PART, dir=home))
    try:
        yield beside
        beside.chmod(0o755)  # mkdtemp makes it private
        beside.rename(home / folder_name(patient))
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _writer(name: str) -> Any:
    if name == "text":
        return TextWriterConfig().build()
    if name.startswith("xray"):
        return ImageWriterConfig(value_range=(0.0, 1.0)).build()
    if name.startswith("mri"):
        return NiftiWriterConfig(dtype="int16", step=0.1).build()
    return NiftiWriterConfig(units="HU" if name == "ct" else "1", dtype="int16").build()
