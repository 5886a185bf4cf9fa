"""BraTS: gliomas in four MRI contrasts with the tumour's mask (MedM2G 4, Tables 2 and 7: BraTS 2020).

Layouts of 2018 to 2023, https://www.med.upenn.edu/cbica/brats2020/data.html,
https://www.synapse.org/Synapse:syn51156910 and, as unpacked,
https://www.kaggle.com/datasets/awsaf49/brats20-dataset-training-validation ::

    HGG/Brats18_2013_2_1/Brats18_2013_2_1_t1ce.nii.gz                      2018, LGG likewise
    MICCAI_BraTS2020_TrainingData/BraTS20_Training_001/BraTS20_Training_001_flair.nii.gz
    BraTS2021_00000/BraTS2021_00000_t1.nii.gz
    ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz
    .../name_mapping.csv                                                    2019 and 2020: the grade
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.csv_tables import read_rows
from plugins.public_datasets.file_listing import walk_folders
from plugins.public_datasets.skipped_files import SkippedFiles

CONTRASTS = {
    **{"t1": "mri_t1", "t1n": "mri_t1", "t1ce": "mri_t1c", "t1c": "mri_t1c", "t1gd": "mri_t1c"},
    **{"t2": "mri_t2", "t2w": "mri_t2", "flair": "mri_flair", "t2f": "mri_flair"},
}
MASK, GRADE = "tumour", "high_grade"
_FILE = re.compile(rf"(?P<case>.+)[_-](?P<what>{'|'.join(CONTRASTS)}|seg)\.nii(\.gz)?", re.IGNORECASE)
_SEGMENTATION = re.compile(r".+_Segm\.nii(\.gz)?")  # case 355 of 2020 has its mask under its old name
_TIMEPOINT = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d+")  # since 2023 a patient may come twice
_NUM_CONTRASTS = len(set(CONTRASTS.values()))
Split = Literal["train", "validation", "test"]


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per case, by folder name. Cases of the challenge's validation part have no mask and that split.

    The mask holds the challenge's numbers for the tumour's parts; any number but 0 is tumour.
    """
    root, skipped, num = Path(root), SkippedFiles(), 0
    grades: dict[str, int] = {}
    for folder, names in walk_folders(root):
        grades.update(_grades(folder, names))
        for case, images in _cases(folder, names).items():
            num += 1
            files = {CONTRASTS[what]: (path,) for what, path in images.items() if what in CONTRASTS}
            split = split_of(case, folder.relative_to(root))
            _count_missing(case, files, "seg" in images, split, skipped)
            yield Record(
                patient=_patient(case),
                study=case,
                files=files,
                split=split,
                labels=_labels(case, (root.name, *folder.relative_to(root).parts), grades),
                masks={MASK: images["seg"]} if "seg" in images else {},
            )
    if not num:
        raise UserError(
            f"{root}: holds no case of BraTS; expected files like BraTS20_Training_001_t1.nii.gz or"
            " BraTS-GLI-00000-000-t1n.nii.gz; point root at the folder that holds the folders of the cases"
        )
    skipped.warn(root)


def split_of(case: str, folder: Path) -> Split:
    """Return the split that the names of the case and its folders state; training where they state none."""
    name = f"{folder}/{case}".lower()
    return "validation" if "validation" in name else "test" if "testing" in name else "train"


def _cases(folder: Path, names: list[str]) -> dict[str, dict[str, Path]]:
    cases: dict[str, dict[str, Path]] = {}
    for name in names:
        match = _FILE.fullmatch(name)
        if match:
            cases.setdefault(match["case"], {})[match["what"].lower()] = folder / name
    spare = [name for name in names if _SEGMENTATION.fullmatch(name)]
    if len(cases) == 1 and spare:
        next(iter(cases.values())).setdefault("seg", folder / spare[0])
    return cases


def _grades(folder: Path, names: list[str]) -> dict[str, int]:
    """Return the grade of every case in ``name_mapping.csv``, which lies above the folders of the cases."""
    if "name_mapping.csv" not in names:
        return {}
    table = folder / "name_mapping.csv"
    grades: dict[str, int] = {}
    for _, row in read_rows(table, ("Grade",)):
        cases = [cell for column, cell in row.items() if re.fullmatch(r"BraTS_20\d\d_subject_ID", column)]
        grades.update({case: int(row["Grade"] == "HGG") for case in cases if case and row["Grade"] in ("HGG", "LGG")})
    return grades


def _labels(case: str, folders: tuple[str, ...], grades: dict[str, int]) -> dict[str, int]:
    for name, high in (("HGG", 1), ("LGG", 0)):
        if name in folders:
            return {GRADE: high}
    return {GRADE: grades[case]} if case in grades else {}


def _patient(case: str) -> str:
    match = _TIMEPOINT.fullmatch(case)
    return match[1] if match else case


def _count_missing(
    case: str, files: dict[str, tuple[Path, ...]], masked: bool, split: Split, skipped: SkippedFiles
) -> None:
    if len(files) < _NUM_CONTRASTS:
        skipped.add("cases with fewer than four contrasts", case)
    if split == "train" and not masked:
        skipped.add("training cases without a mask", case)


BRATS = DatasetAdapter(
    name="brats",
    title="BraTS 2018 to 2023",
    modalities=("mri_t1", "mri_t1c", "mri_t2", "mri_flair"),
    licence="registration with the challenge; research use, see the terms of the year",
    citation=(
        "Menze et al., IEEE TMI 34(10):1993-2024 (2015); Bakas et al., Scientific Data 4:170117 (2017);"
        " https://www.med.upenn.edu/cbica/brats2020/data.html, https://www.synapse.org/Synapse:syn51156910"
    ),
    scan=scan,
)
