"""Brain tumour MRI and CT: scans of one patient within half a year (MedM2G 4, central alignment).

Layout unverified below the two top folders, https://www.kaggle.com/datasets/chenghanpu/brain-tumor-mri-and-ct-scan ::

    Dicom/                      series of CPTAC-GBM, TCGA-GBM and a third collection of TCIA, in their own folders
    data(processed)/            train_input.npy, train_output.npy, ...: not read

So the headers decide, not the folders: what a series is, and whose. The arrays of ``data(processed)`` are not read:
they have no patients, no units and no geometry, and users of the page report that their pairs are not MRI and CT.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.dicom_series import Series, iter_series, modalities_of
from plugins.public_datasets.file_listing import list_names
from plugins.public_datasets.skipped_files import SkippedFiles


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per patient with all CT and MRI series, that with most slices first; there is no official split.

    ``mri`` holds every MRI series; where a header states the contrast, ``mri_t1`` and the like hold it too. Series are
    not registered to each other.
    """
    root, skipped = Path(root), SkippedFiles()
    patients: dict[str, list[Series]] = {}
    for series in iter_series(root, skipped):
        if series.patient:
            patients.setdefault(series.patient, []).append(series)
        else:
            skipped.add("series without a patient", series.path)
    if not patients:
        arrays = [name for name in list_names(root) | list_names(root / "data(processed)") if name.endswith(".npy")]
        hint = f" (the arrays, such as {min(arrays)}, have no patients and no geometry)" if arrays else ""
        raise UserError(f"{root}: holds no CT or MR series in DICOM{hint}; point root at the folder that holds Dicom")
    for patient, scans in sorted(patients.items()):
        files: dict[str, tuple[Path, ...]] = {}
        for series in sorted(scans, key=lambda series: -series.num_files):
            for modality in modalities_of(series):
                files[modality] = (*files.get(modality, ()), series.path)
        if len({series.modality for series in scans}) < 2:
            skipped.add("patients with CT or MRI alone", patient)
        yield Record(patient=patient, study=patient, files=files)
    skipped.warn(root)


BRAIN_MRI_CT = DatasetAdapter(
    name="brain_mri_ct",
    title="Brain tumour MRI and CT",
    modalities=("ct", "mri", "mri_t1", "mri_t1c", "mri_t2", "mri_pd", "mri_flair"),
    licence="not stated here; that of the page, and of the TCIA collections that the series come from",
    citation=(
        "Brain tumor MRI and CT scan, https://www.kaggle.com/datasets/chenghanpu/brain-tumor-mri-and-ct-scan, from"
        " CPTAC-GBM and TCGA-GBM of The Cancer Imaging Archive"
    ),
    scan=scan,
)
