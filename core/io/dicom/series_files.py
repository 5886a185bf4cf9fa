"""The image series in a folder, not below it; what is left out is named in a warning."""

from __future__ import annotations

import warnings
from pathlib import Path

from core.errors import MedWeaveWarning, UserError
from core.io.dicom.header import Header
from core.io.dicom.instance import HELD_BYTES, SUFFIXES, open_dicom
from core.io.files import opening

_INDEX = ("dicomdir", ".ds_store", "thumbs.db", "icon\r")  # files that systems put next to images
_START = 132  # bytes until a DICOM file has said that it is one
_LISTED = 6  # series or files that a message names


def find_series(folder: Path, max_files: int) -> list[Header]:
    """Return the instances of the one image series in a folder; `UserError` that lists them where there are several."""
    series = _series_in(folder, max_files)
    if not series:
        inside = sum(1 for entry in _entries(folder) if entry.is_dir())
        hint = f"name one of its {inside} folders" if inside else "name a folder of DICOM files"
        raise UserError(f"{folder}: holds no DICOM image; {hint}")
    if len(series) > 1:
        listed = "; ".join(_described(headers) for headers in list(series.values())[:_LISTED])
        more = f"; and {len(series) - _LISTED} more" if len(series) > _LISTED else ""
        raise UserError(f"{folder}: holds {len(series)} series: {listed}{more}; name one of its files instead")
    if "" in series:
        warnings.warn(
            MedWeaveWarning(f"{folder}: its files state no SeriesInstanceUID and are taken for one series"),
            stacklevel=2,
        )
    return next(iter(series.values()))


def find_series_of(header: Header, max_files: int) -> list[Header]:
    """Return the instances of the series that a file belongs to, among the files of its folder."""
    series = header.word("SeriesInstanceUID")
    if not series:
        raise UserError(f"{header.path}: states no SeriesInstanceUID, so its series is unknown; export it again")
    return _series_in(header.path.parent, max_files, only=series)[series]


def is_index(file: Path) -> bool:
    """Return whether a file is one that systems put next to images, and says nothing of them."""
    return file.name.lower() in _INDEX or file.name.startswith("._")


def _series_in(folder: Path, max_files: int, only: str | None = None) -> dict[str, list[Header]]:
    series, others = dict[str, list[Header]](), list[str]()
    files = [entry for entry in _entries(folder) if entry.is_file() and not is_index(entry)]
    if len(files) > max_files:
        raise UserError(f"{folder}: holds {len(files)} files, more than max_files = {max_files}; sort it by series")
    num_bytes = 0
    for path in files:
        file = open_dicom(path)
        if not file.is_dicom and not path.name.lower().endswith(SUFFIXES):
            _require_content(path)
            others.append(path.name)
            continue
        header = file.header
        num_bytes += len(file.content or b"")
        if num_bytes > HELD_BYTES:  # read anew when its pixels are wanted
            file.release()
        if header.value("Rows") is not None:
            series.setdefault(header.word("SeriesInstanceUID"), []).append(header)
        elif only is None or only.startswith(header.word("SeriesInstanceUID")):  # which may be cut, too
            _require_no_image(header)
            others.append(path.name)
    if others and only is None:
        names = ", ".join(others[:_LISTED]) + (", ..." if len(others) > _LISTED else "")
        warnings.warn(
            MedWeaveWarning(f"{folder}: left out what is no DICOM image ({len(others)}): {names}"), stacklevel=2
        )
    return series


def _require_content(file: Path) -> None:
    """`UserError` where a file that is named as slices may be holds nothing: it may have been one."""
    suffix = file.suffix[1:]
    with opening(file), file.open("rb") as content:
        if (not suffix or suffix.isdigit()) and not file.name.startswith(".") and not any(content.read(_START)):
            raise UserError(
                f"{file}: is empty or begins with nothing but zeros, and may have been a slice; copy it again, or"
                " remove it"
            )


def _require_no_image(header: Header) -> None:
    """`UserError` where an instance without Rows is an image by its SOP class, or ends before that is stated."""
    from pydicom.uid import UID

    kind = header.word("SOPClassUID")
    whole = kind and kind == header.dataset.file_meta.get("MediaStorageSOPClassUID", kind)
    if not whole or "Image Storage" in UID(kind).name:
        statement = UID(kind).name if whole else "no whole SOPClassUID"
        raise UserError(
            f"{header.path}: states {statement} and no Rows, so it was cut short; copy it again, or remove it"
        )


def _entries(folder: Path) -> list[Path]:
    with opening(folder):
        return sorted(folder.iterdir())


def _described(headers: list[Header]) -> str:
    first = headers[0]
    number, what = first.text("SeriesNumber") or "?", first.text("SeriesDescription") or "no description"
    kind = first.word("Modality") or "?"
    return f"{number} ({kind}, {what}, {len(headers)} files, e.g. {first.path.name})"
