"""Gold Atlas, male pelvis: T1, T2 and CT of 19 patients for radiotherapy (MedM2G 4, Table 7: T2 to CT).

Layout, https://zenodo.org/records/583096: an archive per patient, all data DICOM. Unpacked, each patient is a folder
of files whose series are identified by their headers alone. One CT series of each patient was deformed onto the MRI:
it shares the MRI's frame of reference, and stands first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.dicom_series import Series, iter_series, modalities_of
from plugins.public_datasets.file_listing import list_names
from plugins.public_datasets.skipped_files import SkippedFiles


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per folder of a patient, by name; all of them training, for there is no official split.

    ``mri`` holds every MRI series, T2 first; ``mri_t1`` and ``mri_t2`` hold those of their contrast. Delineations
    (RTSTRUCT) are no masks on a grid: they are skipped and counted.
    """
    root, skipped, num = Path(root), SkippedFiles(), 0
    for name in sorted(list_names(root)):
        if name.startswith(".") or not (root / name).is_dir():
            continue
        files = files_by_modality(list(iter_series(root / name, skipped)))
        if files:
            num += 1
            yield Record(patient=name, study=name, files=files)
    if not num:
        raise UserError(
            f"{root}: holds no folder with CT or MR series in DICOM; point root at the folder that holds the patients'"
        )
    skipped.warn(root)


def files_by_modality(scans: Sequence[Series]) -> dict[str, tuple[Path, ...]]:
    """Return the series by modality: CT in a frame of reference of the MRI first, T2 first; else by name."""
    frames = {series.frame for series in scans if series.modality == "MR" and series.frame}
    ordered = sorted(scans, key=lambda series: (series.frame not in frames, series.contrast != "t2"))
    files: dict[str, tuple[Path, ...]] = {}
    for series in ordered:
        for modality in modalities_of(series):
            files[modality] = (*files.get(modality, ()), series.path)
    return files


GOLD_ATLAS = DatasetAdapter(
    name="gold_atlas",
    title="Gold Atlas, male pelvis",
    modalities=("ct", "mri", "mri_t1", "mri_t2"),
    licence="access on request at Zenodo, under the terms given there",
    citation=(
        "Nyholm et al., MR and CT data with multiobserver delineations of organs in the pelvic area,"
        " Medical Physics 45(3):1295-1300 (2018); https://zenodo.org/records/583096"
    ),
    scan=scan,
)
