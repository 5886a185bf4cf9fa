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
from plugins.public_datasets.captions import caption
from plugins.public_datasets.csv_tables import lines
from plugins.public_datasets.file_listing import folders_in
from plugins.public_datasets.skipped_files import Omissions

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
    """A record per patient and phase, diastole first, so that each image has its mask; caption from the group.

    In the mask 1 is the right ventricle, 2 the myocardium, 3 the left ventricle. Official split: training and testing.
    """
    root, omitted, num = Path(root), Omissions(), 0
    for folder, names in folders_in(root):
        if "Info.cfg" not in names:
            continue
        patient, about = folder.name, _about(folder / "Info.cfg")
        labels = {name: int(name == about["Group"]) for name in GROUPS} if about.get("Group") else {}
        for phase in _PHASES:
            study = f"{patient}_frame{int(about[phase]):02d}"
            image, mask = _file(study, names), _file(f"{study}_gt", names)
            if image is None:
                omitted.add("frames that Info.cfg names and that are not there", folder / study)
                continue
            if mask is None:
                omitted.add("masks that are not there", folder / f"{study}_gt.nii.gz")
            num += 1
            yield Record(
                patient=patient,
                study=study,
                files={"mri": (folder / image,)},
                texts=_texts(phase, about.get("Group", "")),
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
    omitted.tell(root)


def _file(stem: str, names: list[str]) -> str | None:
    return next((name for name in (f"{stem}.nii.gz", f"{stem}.nii") if name in names), None)


def _texts(phase: str, group: str) -> dict[str, str]:
    return {"text": caption(f"Cardiac MRI, {_PHASES[phase]},", [GROUPS[group]])} if group else {}


def _about(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines(path):
        key, colon, value = line.partition(":")
        if not colon:
            raise UserError(f"{path}: '{line[:60]}' is no line 'name: value'; download the patient again")
        found[key.strip()] = value.strip()
    wrong = [phase for phase in _PHASES if not re.fullmatch(r"\d{1,3}", found.get(phase, ""))]
    if wrong:
        raise UserError(f"{path}: {wrong[0]} is '{found.get(wrong[0], '')}', expected a frame's number")
    if found.get("Group", "") not in (*GROUPS, ""):
        raise UserError(f"{path}: Group is '{found['Group']}' (known: {', '.join(GROUPS)}); download the patient again")
    return found


ACDC = DatasetAdapter(
    name="acdc",
    title="ACDC, cine MRI of the heart",
    modalities=("text", "mri"),
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and"
        " Diagnosis, IEEE TMI 37(11):2514-2525 (2018); https://www.creatis.insa-lyon.fr/Challenge/acdc/"
    ),
    scan=scan,
)
