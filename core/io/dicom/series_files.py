"""The image series in a folder, not below it; what is left out is named in a warning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    model_validator,
)

from core.errors import MedWeaveWarning, UserError
from core.io.dicom.header import Header
from core.io.dicom.instance import HELD_BYTES, SUFFIXES, open_dicom
from core.io.dicom.slices import is_localizer
from core.io.files import opening
from core.io.geometry import with_message

_INDEX = ("dicomdir", ".ds_store", "thumbs.db", "icon\r")  # files that systems put next to images
_START = 132  # bytes until a DICOM file has said that it is one
_LISTED = 6  # series or files that a message names


class SeriesNamed(BaseModel):
    """One series of a folder: its Series Number, or a pattern of its Series Description, as ``"*T1*post*"``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: NonNegativeInt | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _require_single_name(self) -> SeriesNamed:
        if (self.number is None) == (self.description is None):
            raise ValueError("a series is named by number or description")
        return self

    def means(self, header: Header) -> bool:
        """Return whether an instance is of the named series; case and outer spaces do not count."""
        if self.number is not None:
            return header.text("SeriesNumber").strip() == str(self.number)
        return fnmatchcase(header.text("SeriesDescription").strip().lower(), str(self.description).strip().lower())


_SERIES = "a series is 'only', 'most_slices' or a table with number (0 or more) or description (a pattern)"
SeriesChoice = Annotated[Literal["only", "most_slices"] | SeriesNamed, with_message(_SERIES)]
"""Which series of a folder is read: the only one, that with most slices, or a named one."""


def find_series(
    folder: Path, max_files: int, choice: SeriesChoice = "only", *, localizers: bool = False
) -> list[Header]:
    """Return the instances of the chosen image series in a folder.

    Beside other series, one of scouts alone is left out, unless ``localizers``. `UserError` lists the series where
    none or several are meant.
    """
    series = _series_in(folder, max_files)
    if not series:
        inside = sum(1 for entry in _entries(folder) if entry.is_dir())
        hint = f"name one of its {inside} folders" if inside else "name a folder of DICOM files"
        raise UserError(f"{folder}: holds no DICOM image; {hint}")
    if len(series) > 1:
        return _chosen(folder, [*series.values()], choice, localizers=localizers)
    if "" in series:
        warnings.warn(
            MedWeaveWarning(f"{folder}: its files state no SeriesInstanceUID and are taken for one series"),
            stacklevel=2,
        )
    return next(iter(series.values()))


def _chosen(folder: Path, series: Sequence[list[Header]], choice: SeriesChoice, *, localizers: bool) -> list[Header]:
    """Return one of several series, and name those that are left out in a warning."""
    scans = [each for each in series if localizers or not all(map(is_localizer, each))]
    if choice == "most_slices":
        longest = max(map(_num_slices, scans), default=0)
        meant = [each for each in scans if _num_slices(each) == longest]
    else:
        meant = scans if choice == "only" else [each for each in series if choice.means(each[0])]
    if len(meant) != 1:
        todo = "name one of its files, or choose a series by number, description or most slices"
        none = "" if meant else ", none of them the chosen one"
        raise UserError(f"{folder}: holds {len(series)} series{none}: {_listed(series)}; {todo}")
    others = [each for each in series if each is not meant[0]]
    warnings.warn(MedWeaveWarning(f"{folder}: left out {len(others)} other series: {_listed(others)}"), stacklevel=2)
    return meant[0]


def _num_slices(headers: Sequence[Header]) -> int:
    return sum(header.whole("NumberOfFrames", 1, 2**31, default=1) for header in headers)


def _listed(series: Sequence[list[Header]]) -> str:
    more = f"; and {len(series) - _LISTED} more" if len(series) > _LISTED else ""
    return "; ".join(map(_described, series[:_LISTED])) + more


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
