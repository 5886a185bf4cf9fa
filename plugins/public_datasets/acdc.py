"""ACDC: cine MRI of the heart at end diastole and end systole with masks (MedM2G 4, Tables 4 and 7).

Layout, https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html, as unpacked:
https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/ACDC.md ::

    database/training/patient001/Info.cfg                       ED: 1, ES: 12, Group: DCM, Height, NbFrame, Weight
    database/training/patient001/patient001_frame01.nii.gz      and patient001_frame01_gt.nii.gz
    database/testing/patient101/...
    .../patient001_4d.nii.gz                                    the whole cine: not read, it is four-dimensional

The headers lie twice: the sform says 1 mm throughout (read the qform, https://github.com/MIC-DKFZ/nnUNet/issues/2741),
and both call the short axis of the heart superior.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.captions import caption_from_labels
from plugins.public_datasets.csv_tables import read_lines
from plugins.public_datasets.file_listing import walk_folders
from plugins.public_datasets.skipped_files import SkippedFiles

MASK = "heart"
GROUPS = {
    "NOR": "no finding",
    "MINF": "previous myocardial infarction",
    "DCM": "dilated cardiomyopathy",
    "HCM": "hypertrophic cardiomyopathy",
    "RV": "abnormal right ventricle",
}
_PHASES = {"ED": "end-diastolic", "ES": "end-systolic"}


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per patient and phase, diastole first, so that each image has its mask; the group is the caption.

    In the mask 1 is the right ventricle, 2 the myocardium and 3 the left ventricle. The official split is that into
    training and testing.
    """
    root, skipped, num = Path(root), SkippedFiles(), 0
    for folder, names in walk_folders(root):
        if "Info.cfg" not in names:
            continue
        patient, info = folder.name, _read_info(folder / "Info.cfg")
        labels = {name: int(name == info["Group"]) for name in GROUPS} if info.get("Group") else {}
        for phase in _PHASES:
            study = f"{patient}_frame{int(info[phase]):02d}"
            image, mask = _file(study, names), _file(f"{study}_gt", names)
            if image is None:
                skipped.add("frames that Info.cfg names and that are not there", folder / study)
                continue
            if mask is None:
                skipped.add("masks that are not there", folder / f"{study}_gt.nii.gz")
            num += 1
            yield Record(
                patient=patient,
                study=study,
                files={"mri": (folder / image,)},
                texts=_texts(phase, info.get("Group", "")),
                split="test" if "testing" in folder.relative_to(root).parts or root.name == "testing" else "train",
                labels=labels,
                masks={MASK: folder / mask} if mask else {},
                strata={"phase": phase},
            )
    if not num:
        raise UserError(
            f"{root}: holds no patient001/Info.cfg with patient001_frame01.nii.gz beside it; point root at the folder"
            " that holds training and testing"
        )
    skipped.warn(root)


def _file(stem: str, names: list[str]) -> str | None:
    return next((name for name in (f"{stem}.nii.gz", f"{stem}.nii") if name in names), None)


def _texts(phase: str, group: str) -> dict[str, str]:
    return {"text": caption_from_labels(f"Cardiac MRI, {_PHASES[phase]},", [GROUPS[group]])} if group else {}


def _read_info(path: Path) -> dict[str, str]:
    info: dict[str, str] = {}
    for line in read_lines(path):
        key, colon, value = line.partition(":")
        if not colon:
            raise UserError(f"{path}: '{line[:60]}' is no line 'name: value'; download the patient again")
        info[key.strip()] = value.strip()
    wrong = [phase for phase in _PHASES if not re.fullmatch(r"\d{1,3}", info.get(phase, ""))]
    if wrong:
        raise UserError(f"{path}: {wrong[0]} is '{info.get(wrong[0], '')}', expected a frame's number")
    if info.get("Group", "") not in (*GROUPS, ""):
        raise UserError(f"{path}: Group is '{info['Group']}' (known: {', '.join(GROUPS)}); download the patient again")
    return info


ACDC = DatasetAdapter(
    name="acdc",
    title="ACDC, cine MRI of the heart",
    modalities=("text", "mri"),
    licence="CC BY-NC-SA 4.0",
    weights_may_be_shared=True,
    citation=(
        "Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and"
        " Diagnosis, IEEE TMI 37(11):2514-2525 (2018); https://www.creatis.insa-lyon.fr/Challenge/acdc/"
    ),
    scan=scan,
)
