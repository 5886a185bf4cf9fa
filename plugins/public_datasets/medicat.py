"""MedICaT: figures of open-access papers with their captions (MedM2G 4, central alignment).

Layout, https://github.com/allenai/medicat ::

    s2_full_figures_oa_nonroco_combined_medical_top4_public.jsonl    pdf_hash, fig_uri, s2_caption, radiology, ...
    figures/<pdf_hash>_<fig_uri>

The source says whether a figure is radiology, not of which kind: that is read off the caption, and a figure whose
caption does not name exactly one kind is left out. So is a compound figure, whose caption tells of several panels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.csv_tables import read_lines
from plugins.public_datasets.file_listing import list_names
from plugins.public_datasets.skipped_files import SkippedFiles

TABLE = "s2_full_figures_oa_nonroco_combined_medical_top4_public.jsonl"
FIGURES = "figures"
_CHEST = re.compile(
    r"\b(chest|thora\w+)\b.{0,40}\b(x-?ray|radiogra\w+|roentgenogra\w+)"
    r"|\b(x-?ray|radiogra\w+)\b.{0,20}\b(chest|thorax)\b",
    re.IGNORECASE,
)
_SIDE = re.compile(r"\blateral\b", re.IGNORECASE)
_FRONT = re.compile(r"\b(PA|AP|postero-?anterior|antero-?posterior|frontal)\b", re.IGNORECASE)
_PANELS = re.compile(r"[(\[][a-dA-D][)\]]|\b[(\[]?[aA][)\].,:]? ?(,|and|-) ?[bB]\b|\bpanels?\b|\bleft panel\b")
_OTHERS = r"\b(PET|SPECT|ultraso\w+|sonogra\w+|echocardio\w+|angiogra\w+|fluorosc\w+|scintigra\w+|mammogra\w+)"
KINDS = {
    "ct": re.compile(r"\b(CTs?|HRCT|CECT)\b|(?i:\bcomput(ed|erized) tomogra\w+)"),
    "mri": re.compile(r"\b(MRIs?|MR (imag|scan)\w*)\b|(?i:\bmagnetic resonance\b)|\bT[12]-?\s?weighted\b"),
    "xray": re.compile(r"\bx-?rays?\b|\bradiogra\w+|\broentgenogra\w+", re.IGNORECASE),
    "other": re.compile(_OTHERS, re.IGNORECASE),
}


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per figure of a single CT, MRI or chest X-ray with its caption; a paper counts as a patient.

    There is no official split. `UserError` names the table and the line.
    """
    root, skipped, num = Path(root), SkippedFiles(), 0
    present, table = list_names(root / FIGURES), root / TABLE
    if not table.is_file() or not present:
        raise UserError(f"{root}: has no {TABLE} beside a folder {FIGURES}; point root at the folder that holds both")
    for number, text in enumerate(read_lines(table), 1):
        entry = _entry(text, number, table)
        name = f"{entry['pdf_hash']}_{entry['fig_uri']}"
        caption = (entry.get("s2_caption") or entry.get("s2orc_caption") or "").strip()
        kind = modality_of(caption) if entry.get("radiology") else "figures that are no radiology"
        if " " in kind:
            skipped.add(kind, name)
        elif name not in present:
            skipped.add(f"figures listed in {TABLE} that are not there", name)
        else:
            num += 1
            study, files = Path(name).stem, {kind: (root / FIGURES / name,)}
            yield Record(patient=entry["pdf_hash"], study=study, files=files, texts={"text": caption})
    if not num:
        raise UserError(f"{root}: no figure of {TABLE} is there and one CT, MRI or chest X-ray")
    skipped.warn(root)


def modality_of(caption: str) -> str:
    """Return the only modality that a caption names, or else the reason, in several words, why there is none."""
    if not caption:
        return "figures without a caption"
    if _PANELS.search(caption):
        return "compound figures"
    kinds = [name for name, pattern in KINDS.items() if pattern.search(caption)]
    if len(kinds) != 1 or kinds == ["other"]:
        return "figures whose caption names no or several kinds"
    if kinds != ["xray"]:
        return kinds[0]
    views = [bool(_FRONT.search(caption)), bool(_SIDE.search(caption))]
    if not _CHEST.search(caption) or views.count(True) != 1:
        return "X-rays that are not of the chest, or not of one stated view"
    return "xray_frontal" if views[0] else "xray_lateral"


def _entry(text: str, number: int, table: Path) -> dict:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{table}, entry {number}: is no JSON ({error}); download the table again") from error
    keys = ("pdf_hash", "fig_uri")
    fields = entry if isinstance(entry, dict) else {}
    wrong = [key for key in keys if not isinstance(fields.get(key), str) or not fields[key]]
    if wrong:
        raise UserError(f"{table}, entry {number}: has no {wrong[0]}; download the table again")
    captions = (entry.get(key) for key in ("s2_caption", "s2orc_caption"))
    if not all(caption is None or isinstance(caption, str) for caption in captions):
        raise UserError(f"{table}, entry {number}: a caption is no text; download the table again")
    return entry


MEDICAT = DatasetAdapter(
    name="medicat",
    title="MedICaT, figures and captions of papers",
    modalities=("text", "ct", "mri", "xray_frontal", "xray_lateral"),
    licence="non-commercial; each figure under the licence of its article (oa_info); access by a form",
    citation="Subramanian et al., MedICaT, Findings of EMNLP 2020; https://github.com/allenai/medicat",
    scan=scan,
)
