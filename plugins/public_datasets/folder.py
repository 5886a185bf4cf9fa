"""A folder of your own: a sub-folder per study, its files named by modality.

Without further settings this layout, which is MedWeave's, is read::

    patient1/report.txt  frontal.dcm  lateral.png  ct/  mri_t1.nii.gz  brain_mask.nii.gz
    patient2/visit1/...                                    with studies = "*/*"
    studies.csv                                            optional: study, patient, split, and a column per finding

and a file ``folder.toml`` in the root describes another one::

    studies = "*/*"                 # where the studies are; the first folder of the path is the patient
    [modalities]                    # a name or pattern of a file, or of the folder of a series
    xray_frontal = ["*_pa.dcm"]
    [masks]
    lesion = ["*_lesion.nii.gz"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.csv_tables import Row, find_table, read_rows, row_error
from plugins.public_datasets.file_listing import list_names
from plugins.public_datasets.skipped_files import SkippedFiles

PATTERNS, STUDIES = "folder.toml", "studies.csv"
_NAMES = {
    "text": ("report", "text", "caption"),
    "xray_frontal": ("frontal", "pa", "ap", "xray_frontal"),
    "xray_lateral": ("lateral", "ll", "xray_lateral"),
    "ct": ("ct",),
    "mri": ("mri", "mr"),
    "mri_t1": ("t1", "t1w", "t1n", "mri_t1"),
    "mri_t1c": ("t1c", "t1ce", "t1gd", "mri_t1c"),
    "mri_t2": ("t2", "t2w", "mri_t2"),
    "mri_pd": ("pd", "pdw", "mri_pd"),
    "mri_flair": ("flair", "t2f", "mri_flair"),
}
_MASK_ENDS = ("_mask", "_seg")
_SIDECAR_SUFFIXES = (
    ".json",
    ".csv",
    ".tsv",
    ".toml",
    ".md",
    ".pdf",
    ".raw",
    ".zraw",
)  # of files that go with another file
Split = Literal["train", "validation", "test"]
Files = dict[str, tuple[Path, ...]]
_SPLITS: Mapping[str, Split] = {"": "train", "train": "train", "validation": "validation", "test": "test"}
_LABELS = {"1": 1, "0": 0}


class Patterns(BaseModel):
    """Hold the settings of ``folder.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    studies: str = "*"
    modalities: dict[str, tuple[str, ...]] = {}
    masks: dict[str, tuple[str, ...]] = {}


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per folder that holds a known modality, by name. Several files of a modality come by name.

    Files that match no pattern are counted in one warning. `UserError` names the file and the line.
    """
    root, skipped, num = Path(root), SkippedFiles(), 0
    patterns, table = read_patterns(root / PATTERNS), find_table(root, STUDIES)
    listed = {} if table is None else _read_studies(table)
    for folder in sorted(path for path in root.glob(patterns.studies) if path.is_dir()):
        study = folder.relative_to(root).as_posix()
        if study.startswith("."):
            continue
        files, masks = _assign_files(folder, patterns, skipped)
        if not files:
            skipped.add("folders that hold no modality", folder)
            continue
        num += 1
        row = listed.pop(study, {})
        yield Record(
            patient=row.get("patient") or study.split("/")[0],
            study=study,
            files=files,
            split=_SPLITS[row.get("split", "")],
            labels={name: _LABELS[cell] for name, cell in _findings(row) if cell},
            masks=masks,
        )
    for study in listed:
        skipped.add(f"studies of {STUDIES} that are not there", study)
    if not num:
        raise UserError(
            f"{root}: no folder {patterns.studies} holds a file named by its modality, such as report.txt, frontal.dcm,"
            f" ct.nii.gz or the folder ct; rename them, or say their names in {PATTERNS}"
        )
    skipped.warn(root)


def read_patterns(path: Path) -> Patterns:
    """Return the patterns of ``folder.toml``, or the default ones; `UserError` names a wrong key."""
    if not path.is_file():
        return Patterns()
    try:
        settings: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        patterns = Patterns.model_validate(settings)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"{path}: {where}: {fault['msg']} (known: studies, modalities, masks)") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as TOML: {error}; correct it") from error
    if Path(patterns.studies).is_absolute() or ".." in Path(patterns.studies).parts or not patterns.studies:
        raise UserError(f"{path}: studies = '{patterns.studies}' leads out of the folder; write '*' or '*/*'")
    return patterns


def _assign_files(folder: Path, patterns: Patterns, skipped: SkippedFiles) -> tuple[Files, dict[str, Path]]:
    files: Files = {}
    masks: dict[str, Path] = {}
    for name in sorted(name for name in list_names(folder) if not name.startswith(".")):
        mask, modality = _mask_of(name, patterns), _modality_of(name, patterns)
        if mask:
            if mask in masks:
                raise UserError(f"{folder}: {masks[mask].name} and {name} are both the mask '{mask}'; keep one")
            masks[mask] = folder / name
        elif modality:
            files[modality] = (*files.get(modality, ()), folder / name)
        elif not name.lower().endswith(_SIDECAR_SUFFIXES):
            skipped.add("files that no pattern names", folder / name)
    return files, masks


def _modality_of(name: str, patterns: Patterns) -> str | None:
    for modality, globs in patterns.modalities.items():
        if any(fnmatchcase(name, glob) for glob in globs):
            return modality
    if name.lower().endswith(_SIDECAR_SUFFIXES):
        return None
    stem = _stem(name)
    # A longer ending is the closer one: case7_mri_t1 is mri_t1, not t1.
    ends = {end: modality for modality, names in _NAMES.items() if modality not in patterns.modalities for end in names}
    known = (end for end in sorted(ends, key=len, reverse=True) if stem == end or stem.endswith((f"_{end}", f"-{end}")))
    return next((ends[end] for end in known), None)


def _mask_of(name: str, patterns: Patterns) -> str | None:
    for mask, globs in patterns.masks.items():
        if any(fnmatchcase(name, glob) for glob in globs):
            return mask
    if name.lower().endswith(_SIDECAR_SUFFIXES):
        return None
    stem = _stem(name)
    end = next((end for end in _MASK_ENDS if stem.endswith(end) or stem == end[1:]), None)
    return None if end is None else stem.removesuffix(end).removesuffix(end[1:]) or "mask"


def _stem(name: str) -> str:
    return name.lower().removesuffix(".gz").rsplit(".", 1)[0]


def _read_studies(path: Path) -> dict[str, Row]:
    studies: dict[str, Row] = {}
    for line, row in read_rows(path, ("study",)):
        if row["study"] in studies or not row["study"]:
            raise row_error(path, line, f"study '{row['study']}' is empty or stands there twice", "correct it")
        if row.get("split", "") not in _SPLITS:
            raise row_error(path, line, f"split '{row['split']}' (known: train, validation, test)", "correct it")
        wrong = next((name for name, cell in _findings(row) if cell not in (*_LABELS, "")), None)
        if wrong:
            raise row_error(path, line, f"{wrong} is '{row[wrong]}', expected 1, 0 or nothing", "correct it")
        studies[row["study"]] = row
    return studies


def _findings(row: Row) -> list[tuple[str, str]]:
    return [(name, cell) for name, cell in row.items() if name not in ("study", "patient", "split")]


FOLDER = DatasetAdapter(
    name="folder",
    title="A folder per study, files named by modality",
    modalities=(),
    licence="that of the data",
    citation="that of the data",
    scan=scan,
)
