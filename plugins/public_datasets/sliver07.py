"""SLIVER07: contrast-enhanced CT of the abdomen with the liver's mask (MedM2G 4, Table 4).

Layout, https://sliver07.grand-challenge.org/, as unpacked in
https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/SLIVER07.md; folders' names vary ::

    training-scans/liver-orig001.mhd    liver-orig001.raw
    training-labels/liver-seg001.mhd    liver-seg001.raw
    test-scans/liver-orig001.mhd        ten scans without mask, numbered from 1 again

Headers without TransformMatrix do not distinguish left from right: set ``orientation`` of the reader for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.captions import caption_from_labels
from plugins.public_datasets.file_listing import walk_folders
from plugins.public_datasets.skipped_files import SkippedFiles

MASK = "liver"
_FILE = re.compile(r"liver-(?P<what>orig|seg)(?P<number>\d{3})\.(mhd|mha|nii\.gz|nii)")


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per scan, by number; those in a folder with ``test`` in its name are the official test set."""
    root, skipped = Path(root), SkippedFiles()
    scans: dict[tuple[str, str], dict[str, Path]] = {}
    for folder, names in walk_folders(root):
        part = "test" if "test" in str(folder.relative_to(root)).lower() else "train"
        for name in names:
            match = _FILE.fullmatch(name)
            if match:
                scans.setdefault((part, match["number"]), {})[match["what"]] = folder / name
                _require_raw(folder / name, names)
    for (part, number), files in sorted(scans.items()):
        if "orig" not in files:
            skipped.add("masks without their scan", files["seg"])
            continue
        if "seg" not in files and part == "train":
            skipped.add("masks of training scans that are not there", files["orig"])
        yield Record(
            patient=f"{part}-{number}",
            study=f"{part}-{number}",
            files={"ct": (files["orig"],)},
            texts={"text": caption_from_labels("Abdominal CT image", [MASK])},
            split="test" if part == "test" else "train",
            masks={MASK: files["seg"]} if "seg" in files else {},
        )
    if not any("orig" in files for files in scans.values()):
        raise UserError(f"{root}: holds no liver-orig001.mhd; point root at the folder that holds training and test")
    skipped.warn(root)


def _require_raw(header: Path, names: list[str]) -> None:
    if header.suffix == ".mhd" and not any(f"{header.stem}{packed}" in names for packed in (".raw", ".zraw")):
        raise UserError(
            f"{header}: has no {header.stem}.raw in the same folder, which holds its voxels; unpack it again"
        )


SLIVER07 = DatasetAdapter(
    name="sliver07",
    title="SLIVER07, livers in CT",
    modalities=("text", "ct"),
    licence="registration; for liver segmentation only, any other use needs the organisers' permission; not commercial",
    citation=(
        "Heimann et al., Comparison and evaluation of methods for liver segmentation from CT datasets,"
        " IEEE TMI 28(8):1251-1265 (2009); https://sliver07.grand-challenge.org/Rules/"
    ),
    scan=scan,
)
