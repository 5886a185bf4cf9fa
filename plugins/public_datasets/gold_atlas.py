"""Gold Atlas, male pelvis: T1, T2 and CT of 19 patients for radiotherapy (MedM2G 4, Table 7: T2 to CT).

Layout, https://zenodo.org/records/583096: an archive per patient, all data DICOM. Unpacked, each patient is a folder
of files whose series are told apart by their headers alone. One CT series of each patient was deformed onto the MRI:
it shares the MRI's frame of reference, and stands first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.dicom_series import Series, modalities_of, series_below
from plugins.public_datasets.file_listing import names_in
from plugins.public_datasets.skipped_files import Omissions


def scan(root: Path) -> Iterator[Record]:
    """A record per folder of a patient, by name; all of them training, for there is no official split.

    ``mri`` holds every MRI series, T2 first, and ``mri_t1``, ``mri_t2`` each its own. Delineations (RTSTRUCT) are no
    masks on a grid: they are left out and counted.
    """
    root, omitted, num = Path(root), Omissions(), 0
    for name in sorted(names_in(root)):
        if name.startswith(".") or not (root / name).is_dir():
            continue
        files = files_of(list(series_below(root / name, omitted)))
        if files:
            num += 1
            yield Record(patient=name, study=name, files=files)
    if not num:
        raise UserError(
            f"{root}: holds no folder with CT or MR series in DICOM; point root at the folder that holds the patients'"
        )
    omitted.tell(root)


def files_of(found: Sequence[Series]) -> dict[str, tuple[Path, ...]]:
    """Series by modality: CT in a frame of reference of the MRI first, T2 first; else by name."""
    frames = {series.frame for series in found if series.modality == "MR" and series.frame}
    order = sorted(found, key=lambda series: (series.frame not in frames, series.contrast != "t2"))
    files: dict[str, tuple[Path, ...]] = {}
    for series in order:
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
