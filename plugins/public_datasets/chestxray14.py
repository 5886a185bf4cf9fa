"""ChestX-ray14 of the NIH: frontal chest X-rays with 14 text-mined findings (MedM2G 4, Tables 4 and 5).

Layout, https://nihcc.app.box.com/v/ChestXray-NIHCC and https://www.kaggle.com/datasets/nih-chest-xrays/data ::

    Data_Entry_2017.csv             Image Index, Finding Labels, Follow-up #, Patient ID, Patient Gender, View Position
    train_val_list.txt              names of images, one a line
    test_list.txt
    images/00000001_000.png         or images_001/images/00000001_000.png ... images_012/images/
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from core.api import DatasetAdapter, MedWeaveWarning, Record, UserError
from plugins.public_datasets.captions import caption_from_labels
from plugins.public_datasets.csv_tables import Row, read_lines, read_rows, require_table, row_error
from plugins.public_datasets.file_listing import list_names
from plugins.public_datasets.skipped_files import SkippedFiles

TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
TRAIN, TEST = "train_val_list.txt", "test_list.txt"
NO_FINDING = "No Finding"
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Gender", "View Position")
Split = Literal["train", "validation", "test"]


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per image, which is a visit of its patient, in the order of the table.

    The findings listed are present and the others absent: the source names all that its text mining found. The
    caption is made of them. The official split has no validation part. `UserError` names the table and the line.
    """
    root = Path(root)
    path = require_table(root, "point root at the folder that holds it beside the folders of images", *TABLES)
    folders, splits, skipped, num = _image_folders(root), _splits(root), SkippedFiles(), 0
    for line, row in read_rows(path, _COLUMNS):
        name = row["Image Index"]
        labels = _labels(row, path, line)
        if name not in folders:
            skipped.add(f"images listed in {path.name} that are not there", name)
            continue
        if splits and name not in splits:
            raise row_error(path, line, f"{name} is neither in {TRAIN} nor in {TEST}", "download the lists again")
        num += 1
        yield Record(
            patient=row["Patient ID"],
            study=Path(name).stem,
            files={"xray_frontal": (folders[name] / name,)},
            texts={
                "text": caption_from_labels("Chest X-ray image", [finding for finding in FINDINGS if labels[finding]])
            },
            split=splits.get(name, "train"),
            labels=labels,
            strata={"sex": row["Patient Gender"], "view": row["View Position"]},
        )
    if not num:
        raise UserError(f"{root}: holds no image of {path.name}; expected them in images or images_001/images")
    skipped.warn(root)


def _labels(row: Row, path: Path, line: int) -> dict[str, int]:
    listed = [name.strip() for name in row["Finding Labels"].split("|")]
    unknown = [name for name in listed if name not in (*FINDINGS, NO_FINDING)]
    if unknown or not row["Patient ID"]:
        raise row_error(path, line, f"finding '{unknown[0]}' is none of the 14" if unknown else "Patient ID is empty")
    if row["View Position"] not in ("PA", "AP"):
        raise row_error(path, line, f"View Position is '{row['View Position']}', expected PA or AP")
    return {name: int(name in listed) for name in (*FINDINGS, NO_FINDING)}


def _image_folders(root: Path) -> dict[str, Path]:
    """Return the folder of every image, by the image's name."""
    archives = sorted(name for name in list_names(root) if name.startswith("images"))
    folders: dict[str, Path] = {}
    for folder in (root / archive / below for archive in archives for below in ("", "images")):
        folders.update(dict.fromkeys((name for name in list_names(folder) if name.endswith(".png")), folder))
    return folders


def _splits(root: Path) -> dict[str, Split]:
    missing = [name for name in (TRAIN, TEST) if not (root / name).is_file()]
    if len(missing) == 2:
        message = f"{root}: has no {TRAIN} and no {TEST}, so no official split; set split = 'by_patient' in its entry"
        warnings.warn(MedWeaveWarning(message), stacklevel=2)
        return {}
    if missing:
        raise UserError(f"{root}: has no {missing[0]}; download it again, it is half of the official split")
    splits: dict[str, Split] = dict.fromkeys(read_lines(root / TRAIN), "train")
    twice = next((name for name in read_lines(root / TEST) if name in splits), None)
    if twice:
        raise UserError(f"{root / TEST}: {twice} stands in {TRAIN} too; download both lists again")
    splits.update(dict.fromkeys(read_lines(root / TEST), "test"))
    return splits


CHESTXRAY14 = DatasetAdapter(
    name="chestxray14",
    title="ChestX-ray14 of the NIH Clinical Center",
    modalities=("text", "xray_frontal"),
    licence="free to use with attribution: link the download site, cite the paper, name the NIH Clinical Center",
    weights_may_be_shared=True,
    citation=(
        "Wang et al., ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks, CVPR 2017, 3462-3471;"
        " https://nihcc.app.box.com/v/ChestXray-NIHCC"
    ),
    scan=scan,
)
