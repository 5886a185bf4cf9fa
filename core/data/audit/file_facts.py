"""The facts that an audit records of one file: a flat JSON object, never pixels.

Of every file: ``file`` (its name in the manifest), ``patient``, ``study``, ``split``, ``taken`` (whether training takes
it: the first of its study). Then either ``fault`` with ``missing``, or what is listed here. Of a text in a table
``file`` is ``null``.

=============  =====================================================================================================
content        hash of the file's bytes (of a folder, of all its files; for a table's text, of the text)
pixels         hash of the values that the reader gives (for text, of the words)
look, fine     perceptual hashes of 64 and, in hexadecimal digits, 256 bits; 0 for a constant image
stored         format, colour and depth
shape          array axes
spacing        mm along each; ``null`` where the file does not say
orientation    where the axes point
low, high      smallest and largest value; ``null`` where some are NaN
outside        share of values beyond the range that the modality's units have
assumed        whether units are those of the reader's settings, not of the file
said           the warning of the reader
synthetic      whether the file says that it was generated; left out where not
words          of a text their number; ``ends`` whether it ends a sentence, ``masked`` how many were de-identified,
               ``cut`` how many tokens the networks do not read, ``parts`` a hash of each section
=============  =====================================================================================================
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from core.data.audit.image_hash import FINE_SIDE, perceptual_hash
from core.data.fingerprint import content_hash, encoded, files_of, hash64
from core.errors import UserError
from core.io.dicom.instance import SUFFIXES, is_dicom, read_header
from core.io.npz_archive import SUFFIX
from core.io.report_sections import split_sections
from core.types import LABEL_UNITS, DataFile, DataSpec, Sample, path_on_disk

Facts = Mapping[str, Any]
_NO_UNITS = ("1", "a.u.", "percent", LABEL_UNITS)
# De-identified names, numbers and places: XXXX (Open-i), ___ (MIMIC), [**...**] (MIMIC-II and i2b2).
_MASKED = re.compile(r"\bX{3,}\b|_{3,}|\[\*\*.*?\*\*\]", re.S)
_ENDS = re.compile(r"[.!?][\"')\]]*\s*\Z")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", SUFFIX)


def facts_of_file(file: DataFile, sample: Sample, spec: DataSpec) -> dict[str, Any]:
    """Return the facts of a file that was read in original units."""
    made = {"synthetic": True} if sample.meta.get("synthetic") else {}
    if isinstance(sample.data, str):
        return {"content": content_hash(file), **facts_of_text(sample.data), **made}
    stored = stored_as(file, sample)
    units = str(sample.meta.get("units", ""))
    assumed = is_picture(file) and units not in ("", *_NO_UNITS) and not sample.meta.get("synthetic")
    return {
        "content": content_hash(file),
        "stored": stored,
        "assumed": assumed,
        **_values(np.asarray(sample.data), spec.value_range if units == spec.units not in _NO_UNITS else None),
        **_geometry(sample),
        **made,
    }


def facts_of_text(text: str) -> dict[str, Any]:
    """Return the facts of a report."""
    words = " ".join(text.split())
    parts: dict[str, str] = {}
    for section in split_sections(text):
        for name in sorted(section.names):
            parts[name] = f"{parts.get(name, '')} {' '.join(section.text.split())}".strip()
    return {
        "pixels": hash64(words),
        "words": len(words.split()),
        "ends": bool(_ENDS.search(text)),
        "masked": len(_MASKED.findall(text)),
        "parts": {name: hash64(section) for name, section in parts.items()},
    }


def _values(data: np.ndarray, bounds: tuple[float, float] | None) -> dict[str, Any]:
    finite = bool(np.isfinite(data).all()) and data.size > 0
    digest = blake2b(encoded(f"{data.dtype}{data.shape}"), digest_size=8)
    digest.update(np.ascontiguousarray(data).data)
    plane = _plane(data) if finite and data.ndim > 2 else np.zeros((1, 1))
    facts: dict[str, Any] = {
        "pixels": int.from_bytes(digest.digest(), "big"),
        "look": perceptual_hash(plane),
        "fine": f"{perceptual_hash(plane, FINE_SIDE):064x}",
        "low": float(data.min()) if finite else None,
        "high": float(data.max()) if finite else None,
    }
    if bounds is not None and finite:
        facts["outside"] = round(float(((data < bounds[0]) | (data > bounds[1])).mean()), 4)
    return facts


def _plane(data: np.ndarray) -> np.ndarray:
    """Return the first channel; of a volume its middle slice."""
    first = data[0]
    return first if first.ndim == 2 else first[first.shape[0] // 2]


def _geometry(sample: Sample) -> dict[str, Any]:
    geometry = sample.geometry
    shape = [int(size) for size in np.shape(sample.data)[1:]]
    if geometry is None or geometry.source_header.get("unplaced"):
        return {"shape": shape}
    known = sample.meta.get("spacing_known", True)
    spacing = [float(f"{step:.6g}") for step in geometry.spacing_mm] if known else None
    return {"shape": shape, "spacing": spacing, "orientation": geometry.orientation}


def stored_as(file: DataFile, sample: Sample) -> str:
    """Return how a file stores its pixels, from its header alone; else its suffix.

    Such as ``PNG L``, ``DICOM MONOCHROME2 12 bit`` (of a folder, that of its first file), ``NIfTI int16``.
    """
    path = path_on_disk(file)
    name = path.name.lower()
    header = {} if sample.geometry is None else sample.geometry.source_header
    try:
        if name.endswith(SUFFIX):
            return f"NPZ {header.get('bits')} bit"
        if name.endswith(_PICTURES):
            return _picture(path)
        if path.is_dir() or name.endswith(SUFFIXES) or is_dicom(path):
            return _dicom(path)
    except (OSError, UserError):
        return "unknown"
    kind = "NIfTI" if name.endswith((".nii", ".nii.gz")) else name.rpartition(".")[2] or "no suffix"
    return f"{kind} {header['dtype']}" if "dtype" in header else kind


def is_picture(file: DataFile) -> bool:
    """Return whether a file is of a format that has lost units and position."""
    return path_on_disk(file).name.lower().endswith(_PICTURES)


def _picture(path: Path) -> str:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader gives them
        with Image.open(path) as image:
            return f"{image.format} {image.mode}"


def _dicom(path: Path) -> str:
    if path.is_dir():
        path = next((file for file in files_of(path) if is_dicom(file)), path)
    header = read_header(path)
    colour, bits = header.word("PhotometricInterpretation"), header.word("BitsStored")
    return f"DICOM {colour} {bits} bit" if colour else "DICOM"
