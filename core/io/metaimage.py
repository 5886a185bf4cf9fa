"""Read MetaImage (``.mhd`` with ``.raw``, ``.mha``) as `Sample`; many public challenges publish volumes in it.

The parser is written here, because no library at hand reads the format safely: nibabel does not read it, MONAI's
reader needs all of ITK, and SimpleITK accepts a spacing of 0, refuses gantry tilt, follows a header to any other file,
and returns voxels that nobody wrote where the header lists several files. The format is a text header before plain
voxels, x fastest; world coordinates are LPS and row k of TransformMatrix is the direction of axis k
(https://itk.org/Wiki/ITK/MetaIO/Documentation).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import UserError
from core.io.files import decoding, opening, require_file
from core.io.geometry import centred
from core.io.nifti import NiftiReader
from core.types import Sample

_HEADER_BYTES = 65_536
_DATA_FILE = "ElementDataFile"  # ends the header
_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_FLAGS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


class MetaImageReader(NiftiReader):
    """Read a volume into float32 ``1 *space``, array axes as in the file; the settings are those of NIfTI.

    ``orientation`` says where the axes run in files without TransformMatrix, refused otherwise.
    """

    suffixes = (".mhd", ".mha")

    def read(self, path: Path) -> Sample:
        """Return the volume in units with its exact affine (RAS, mm).

        Raises `UserError` that names the file: no header, not 3 axes, not one real number per voxel, voxels in several
        files or in another folder, fewer or more of them than the header states, no orientation, NaN.
        """
        path = require_file(path, self.suffixes)
        with opening(path), path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
        with decoding(path, "MetaImage"):
            header, num_bytes = _header(start, path)
            layout = _layout(header, path)
            if np.prod(layout.shape, dtype=np.float64) > self.config.max_megavoxels * 1e6:
                raise UserError(
                    f"{path}: shape {layout.shape} is more than max_megavoxels = {self.config.max_megavoxels:g}"
                )
            data = _voxels(path, header, layout, num_bytes)
            affine = self._read_affine(header, layout, path)
        finite = self._finite(data.astype(np.float32), path)
        placed, geometry = self._with_geometry(finite, affine, path, None, str(layout.dtype))
        meta = {"path": str(path), "units": self.config.units}
        return Sample(modality=self.config.modality, data=placed[None], geometry=geometry, meta=meta)

    def _read_affine(self, header: Mapping[str, str], layout: _Layout, path: Path) -> np.ndarray:
        matrix = _first(header, "TransformMatrix", "Rotation", "Orientation")
        if matrix is None:
            if self.config.orientation is None or len(self.config.orientation) != 3:
                raise UserError(
                    f"{path}: states no TransformMatrix, so left and right are unknown; set orientation = 'LPS' (or as"
                    " the files are) if all of them agree"
                )
            return centred(layout.shape, layout.spacing_mm, self.config.orientation).affine
        directions = _numbers(matrix, 9, "TransformMatrix", path).reshape(3, 3)
        origin = _numbers(_first(header, "Offset", "Position", "Origin") or "0 0 0", 3, "Offset", path)
        affine = np.eye(4)
        affine[:3, :3] = _LPS_TO_RAS @ directions.T * layout.spacing_mm
        affine[:3, 3] = _LPS_TO_RAS @ origin
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise UserError(f"{path}: its TransformMatrix is singular; export it again")
        return affine


@dataclass(frozen=True)
class _Layout:
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    dtype: np.dtype
    packed: bool

    @property
    def num_bytes(self) -> int:
        """Return the number of bytes of the voxels once unpacked."""
        return self.shape[0] * self.shape[1] * self.shape[2] * self.dtype.itemsize


def _header(start: bytes, path: Path) -> tuple[dict[str, str], int]:
    """Return the fields, and the number of bytes that they take."""
    fields: dict[str, str] = {}
    at = 0
    while _DATA_FILE not in fields:
        end = start.find(b"\n", at)
        line = start[at : end if end >= 0 else len(start)]
        key, equals, value = line.decode("ascii", errors="replace").partition("=")
        if not equals or (end < 0 and key.strip() != _DATA_FILE):
            raise UserError(f"{path}: has no header of MetaImage that ends with {_DATA_FILE}; export it again")
        fields[key.strip()] = value.strip()
        at = end + 1 if end >= 0 else len(start)
    return fields, at


def _layout(header: Mapping[str, str], path: Path) -> _Layout:
    for key, only in (("NDims", "3"), ("ElementNumberOfChannels", "1"), ("ElementToIntensityFunctionSlope", "1")):
        if header.get(key, only) != only:
            raise UserError(f"{path}: {key} is {header[key]}, this reader reads {only}; convert it to NIfTI")
    if not _flag(header, ("BinaryData",), True, path) or header.get("ElementType") not in _TYPES:
        raise UserError(f"{path}: holds '{header.get('ElementType')}', expected binary {', '.join(_TYPES)}")
    shape = _numbers(header.get("DimSize", ""), 3, "DimSize", path)
    spacing = _numbers(_first(header, "ElementSpacing", "ElementSize") or "", 3, "ElementSpacing", path)
    if (shape < 1).any() or (shape != shape.round()).any() or (spacing <= 0).any():
        raise UserError(f"{path}: DimSize {header['DimSize']} or its spacing is not above 0; export it again")
    order = ">" if _flag(header, ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"), False, path) else "<"
    rows, columns, slices = (int(size) for size in shape)
    x, y, z = (float(step) for step in spacing)
    packed = _flag(header, ("CompressedData",), False, path)
    return _Layout((rows, columns, slices), (x, y, z), np.dtype(order + _TYPES[header["ElementType"]]), packed)


def _voxels(path: Path, header: Mapping[str, str], layout: _Layout, header_bytes: int) -> np.ndarray:
    name = header[_DATA_FILE]
    source, skipped = path, header_bytes
    if name.upper() != "LOCAL":
        source, skipped = _voxel_file(path, name), _skipped(header, path)
    with opening(source), source.open("rb") as file:
        # HeaderSize -1: whatever comes first, the voxels are the end of the file.
        file.seek(skipped if skipped >= 0 else max(0, source.stat().st_size - layout.num_bytes))
        content = file.read(layout.num_bytes + 1)
    if layout.packed:
        content = zlib.decompressobj().decompress(content, layout.num_bytes + 1)
    if len(content) != layout.num_bytes:
        size = f"{len(content)}" if len(content) < layout.num_bytes else "more"
        raise UserError(
            f"{source}: holds {size} bytes of voxels, the header {path.name} states {layout.num_bytes}; copy it again"
        )
    return np.frombuffer(content, layout.dtype).reshape(layout.shape, order="F")


def _voxel_file(path: Path, name: str) -> Path:
    if name.upper().startswith("LIST") or "%" in name or Path(name).name != name:
        raise UserError(
            f"{path}: names '{name[:80]}' for its voxels, expected one file in the same folder; convert it to NIfTI"
        )
    if not (path.parent / name).is_file():
        raise UserError(f"{path}: its voxels are in {name}, which is not in the same folder; copy that too")
    return path.parent / name


def _skipped(header: Mapping[str, str], path: Path) -> int:
    size = header.get("HeaderSize", "0")
    if not size.removeprefix("-").isdecimal() or int(size) < -1:
        raise UserError(f"{path}: HeaderSize is '{size}', expected a number of bytes or -1; export it again")
    return int(size)


def _first(header: Mapping[str, str], *keys: str) -> str | None:
    return next((header[key] for key in keys if key in header), None)


def _flag(header: Mapping[str, str], keys: tuple[str, ...], default: bool, path: Path) -> bool:
    text = _first(header, *keys)
    if text is not None and text.lower() not in _FLAGS:
        raise UserError(f"{path}: {keys[0]} is '{text[:40]}', expected True or False; export it again")
    return default if text is None else _FLAGS[text.lower()]


def _numbers(text: str, num: int, key: str, path: Path) -> np.ndarray:
    try:
        numbers = np.array([float(part) for part in text.split()])
    except ValueError:
        numbers = np.array([])
    if numbers.shape != (num,) or not np.isfinite(numbers).all():
        raise UserError(f"{path}: {key} is '{text[:60]}', expected {num} numbers; export it again")
    return numbers
