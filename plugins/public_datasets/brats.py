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
from plugins.public_datasets.csv_tables import rows
from plugins.public_datasets.file_listing import folders_in
from plugins.public_datasets.skipped_files import Omissions

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
    """A record per case, by folder name. Cases of the challenge's validation part have no mask and that split.

    The mask holds the challenge's own numbers for the tumour's parts; any number but 0 is tumour.
    """
    root, omitted, num = Path(root), Omissions(), 0
    grades: dict[str, int] = {}
    for folder, names in folders_in(root):
        grades.update(_grades(folder, names))
        for case, found in _cases(folder, names).items():
            num += 1
            files = {CONTRASTS[what]: (path,) for what, path in found.items() if what in CONTRASTS}
            split = split_of(case, folder.relative_to(root))
            _count(case, files, "seg" in found, split, omitted)
            yield Record(
                patient=_patient(case),
                study=case,
                files=files,
                split=split,
                labels=_labels(case, (root.name, *folder.relative_to(root).parts), grades),
                masks={MASK: found["seg"]} if "seg" in found else {},
            )
    if not num:
        raise UserError(
            f"{root}: holds no case of BraTS; expected files like BraTS20_Training_001_t1.nii.gz or"
            " BraTS-GLI-00000-000-t1n.nii.gz; point root at the folder that holds the folders of the cases"
        )
    omitted.tell(root)


def split_of(case: str, folder: Path) -> Split:
    """What the names of the case and its folders say; training where they say nothing."""
    told = f"{folder}/{case}".lower()
    return "validation" if "validation" in told else "test" if "testing" in told else "train"


def _cases(folder: Path, names: list[str]) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for name in names:
        match = _FILE.fullmatch(name)
        if match:
            found.setdefault(match["case"], {})[match["what"].lower()] = folder / name
    spare = [name for name in names if _SEGMENTATION.fullmatch(name)]
    if len(found) == 1 and spare:
        next(iter(found.values())).setdefault("seg", folder / spare[0])
    return found


def _grades(folder: Path, names: list[str]) -> dict[str, int]:
    """Case to grade as ``name_mapping.csv`` says, which stands above the cases."""
    if "name_mapping.csv" not in names:
        return {}
    table = folder / "name_mapping.csv"
    found: dict[str, int] = {}
    for _, row in rows(table, ("Grade",)):
        cases = [cell for column, cell in row.items() if re.fullmatch(r"BraTS_20\d\d_subject_ID", column)]
        found.update({case: int(row["Grade"] == "HGG") for case in cases if case and row["Grade"] in ("HGG", "LGG")})
    return found


def _labels(case: str, folders: tuple[str, ...], grades: dict[str, int]) -> dict[str, int]:
    for name, high in (("HGG", 1), ("LGG", 0)):
        if name in folders:
            return {GRADE: high}
    return {GRADE: grades[case]} if case in grades else {}


def _patient(case: str) -> str:
    found = _TIMEPOINT.fullmatch(case)
    return found[1] if found else case


def _count(case: str, files: dict[str, tuple[Path, ...]], masked: bool, split: Split, omitted: Omissions) -> None:
    if len(files) < _NUM_CONTRASTS:
        omitted.add("cases with fewer than four contrasts", case)
    if split == "train" and not masked:
        omitted.add("training cases without a mask", case)


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
