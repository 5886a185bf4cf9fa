"""How a file stores its pixels: format, colour and depth, from its header alone."""

from __future__ import annotations

import warnings
from pathlib import Path

from core.data.fingerprint import files_of
from core.errors import UserError
from core.io.archive import SUFFIX, container
from core.io.dicom import SUFFIXES, is_dicom, read_header
from core.types import Sample

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", SUFFIX)


def stored_as(path: Path, sample: Sample) -> str:
    """E.g. ``PNG L``, ``DICOM MONOCHROME2 12 bit`` (of a folder its first file's), ``NIfTI int16``; else the suffix."""
    name = container(path).name.lower()
    said = {} if sample.geometry is None else sample.geometry.stored
    try:
        if name.endswith(SUFFIX):
            return f"NPZ {said.get('bits')} bit"
        if name.endswith(_PICTURES):
            return _picture(path)
        if path.is_dir() or name.endswith(SUFFIXES) or is_dicom(path):
            return _dicom(path)
    except (OSError, UserError):
        return "unknown"
    kind = "NIfTI" if name.endswith((".nii", ".nii.gz")) else name.rpartition(".")[2] or "no suffix"
    return f"{kind} {said['dtype']}" if "dtype" in said else kind


def is_picture(path: Path) -> bool:
    """Whether a file is of a format that has lost units and position."""
    return container(path).name.lower().endswith(_PICTURES)


def _picture(path: Path) -> str:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader tells of them
        with Image.open(path) as image:
            return f"{image.format} {image.mode}"


def _dicom(path: Path) -> str:
    if path.is_dir():
        path = next((one for one in files_of(path) if is_dicom(one)), path)
    header = read_header(path)
    said, bits = header.word("PhotometricInterpretation"), header.word("BitsStored")
    return f"DICOM {said} {bits} bit" if said else "DICOM"
