"""Write the files of a patient into a folder that appears complete or not at all."""

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
    """Return the name of a mask's column in the manifest, which is its modality: ``mask_organs``."""
    return f"mask_{name}"


def folder_name(patient: int) -> str:
    """Return the name of a patient's folder: ``0042``."""
    return f"{patient:04d}"


def write_study(root: Path, seed: int, patient: int, study: Study) -> None:
    """Write all files of a patient, or none."""
    provenance = provenance_of(seed, patient)
    with patient_folder(root, patient) as folder:
        for name, sample in study.samples.items():
            _writer(name).write(sample, folder / FILES[name], provenance)
        for name, mask in study.masks.items():
            _writer(name).write(mask, folder / MASKS[name], provenance)
        write_parameters(folder, study)


def provenance_of(seed: int, patient: int) -> Provenance:
    """Return the provenance that every file of a patient states, whatever its format."""
    return Provenance(model=f"phantom {FORMAT}", recipe="computed body", seed=seed, index=patient)


def write_parameters(folder: Path, study: Study) -> None:
    """Write every parameter of the patient, and the labels."""
    parameters = {**study.parameters, "labels": dict(study.labels)}
    (folder / PARAMETERS).write_text(json.dumps(parameters, indent=1) + "\n", encoding="utf-8")


@contextmanager
def patient_folder(root: Path, patient: int) -> Iterator[Path]:
    """Give a temporary folder, and rename it when the block succeeds; a kill leaves nothing under the final name."""
    parent = root / PATIENTS
    temporary = Path(tempfile.mkdtemp(prefix=PART, dir=parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes it private
        temporary.rename(parent / folder_name(patient))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _writer(name: str) -> Any:
    if name == "text":
        return TextWriterConfig().build()
    if name.startswith("xray"):
        return ImageWriterConfig(value_range=(0.0, 1.0)).build()
    if name.startswith("mri"):
        return NiftiWriterConfig(dtype="int16", step=0.1).build()
    return NiftiWriterConfig(units="HU" if name == "ct" else "1", dtype="int16").build()
