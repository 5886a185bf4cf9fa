"""Read and write NIfTI: volumes, and slices stored as ``(X, Y, 1)``.

Files that are written are marked as synthetic in the header, in an extension, and in a JSON file of their name.
"""

from __future__ import annotations

import gzip
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat

from core.contract.modality import PartConfig
from core.errors import MedWeaveWarning, UserError
from core.io.files import decoding, require_file, require_storable
from core.io.geometry import Orientation, SliceChoice, centred, select_slice
from core.io.provenance import Mark, mark_nifti, read_nifti_mark, write_marked
from core.types import Geometry, Provenance, Sample

_CHUNK, _MOST_LEFT = 1 << 20, 64 << 20  # bytes
_SAME_SPACING = 0.01  # relative difference that an affine and the header's spacing may have
_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


class NiftiReaderConfig(PartConfig):
    """A reader of ``.nii`` and ``.nii.gz``.

    ``dims``: 3 for volumes, 2 for slices, left out for either (a volume of one slice is a slice). ``volume``: what is
    done with a volume where ``dims`` is 2, see `core.io.geometry`. ``orientation``: where the axes run in files without
    an affine (sform and qform code 0); left out, such files are refused. ``form``: which of the two affines of a file
    counts; left out, the sform where it is set, with a warning where it contradicts the header's spacing.
    ``nan_value`` replaces NaN and infinities; left out, they are refused.
    """

    modality: str
    units: str = "a.u."
    dims: Literal[2, 3] | None = None
    volume: SliceChoice = "refuse"
    orientation: Orientation | None = None
    form: Literal["sform", "qform"] | None = None
    nan_value: float | None = None
    max_megavoxels: PositiveFloat = 1000.0

    def build(self) -> NiftiReader:
        """Make the reader."""
        return NiftiReader(self)


class NiftiReader:
    """Read an image into float32 ``1 *space``, array axes as in the file."""

    suffixes = (".nii", ".nii.gz")

    def __init__(self, config: NiftiReaderConfig) -> None:
        self.config = config

    def read(self, path: Path) -> Sample:
        """Return the image in units with its exact affine (the sform where both forms are set).

        Raises `UserError` that names the file: broken, empty, more than 3 axes, not real numbers, no affine, NaN. A
        compressed file is read to its end, where its checksum stands: a changed bit is an error, not another voxel.
        """
        path = require_file(path, self.suffixes)
        with decoding(path, "NIfTI"), _opened(path) as image:
            shape = self._shape(image, path)
            data = np.asarray(image.get_fdata(dtype=np.float32)).reshape(shape)
            mark = read_nifti_mark(image.header, path)
            affine = self._affine(image, shape, path)
        data = self._finite(data, path)
        data, geometry = self._with_geometry(data, affine, path, mark, str(image.get_data_dtype()))
        meta = {"path": str(path), "units": self.config.units} | ({} if mark is None else mark.meta())
        return Sample(modality=self.config.modality, data=data[None], geometry=geometry, meta=meta)

    def _shape(self, image: Any, path: Path) -> tuple[int, int, int]:
        shape = tuple(int(size) for size in image.shape)
        if any(size == 0 for size in shape) or len(shape) < 2:
            raise UserError(f"{path}: shape {shape} holds no image; export it again")
        if any(size != 1 for size in shape[3:]):
            raise UserError(f"{path}: shape {shape} has more than 3 axes; split the series into one file per volume")
        if image.get_data_dtype().kind not in "iuf":
            raise UserError(f"{path}: holds {image.get_data_dtype()}, expected real numbers in one channel")
        if np.prod(shape, dtype=np.float64) > self.config.max_megavoxels * 1e6:
            raise UserError(f"{path}: shape {shape} is more than max_megavoxels = {self.config.max_megavoxels:g}")
        rows, columns, *rest = shape
        return rows, columns, rest[0] if rest else 1

    def _affine(self, image: Any, shape: tuple[int, int, int], path: Path) -> np.ndarray:
        header = image.header
        if int(header["sform_code"]) or int(header["qform_code"]):
            affine = self._stated_affine(image, path)
            affine[:3] *= _MM_PER_UNIT[header.get_xyzt_units()[0]]
        elif self.config.orientation is not None and len(self.config.orientation) == 3:
            zooms = tuple(float(zoom) for zoom in header.get_zooms()[:3]) + (1.0,) * (3 - len(image.shape))
            affine = centred(shape, zooms[:3], self.config.orientation).affine
        else:
            raise UserError(
                f"{path}: states no orientation (sform and qform code are 0), so left and right are unknown;"
                " convert it again, or set orientation = 'RAS' (or as the files are) if all of them agree"
            )
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise UserError(f"{path}: its affine is singular or not finite; convert it again")
        return affine

    def _stated_affine(self, image: Any, path: Path) -> np.ndarray:
        qform, sform = (image.header[f"{form}_code"] > 0 for form in ("qform", "sform"))
        if self.config.form == "qform":
            if not qform:
                raise UserError(f"{path}: states no qform, and form = 'qform' is set; leave form out")
            return np.array(image.header.get_qform(), dtype=np.float64)
        affine = np.array(image.affine, dtype=np.float64)
        # An axis of one point has no spacing that could be wrong.
        axes = [axis for axis, size in enumerate(image.shape[:3]) if size > 1]
        spacing = np.linalg.norm(affine[:3, axes], axis=0)
        zooms = np.array(image.header["pixdim"][1:4], dtype=float)[axes]
        if sform and self.config.form is None and not np.allclose(spacing, zooms, rtol=_SAME_SPACING):
            text = f"its sform says a spacing of {_format(spacing)}, its header {_format(zooms)}; the sform is used"
            warnings.warn(MedWeaveWarning(f"{path}: {text}; set form = 'qform' or 'sform'"), stacklevel=2)
        return affine

    def _finite(self, data: np.ndarray, path: Path) -> np.ndarray:
        good = np.isfinite(data)
        if good.all():
            return data
        if self.config.nan_value is None:
            raise UserError(f"{path}: {int((~good).sum())} values are NaN or infinite; set nan_value to replace them")
        return np.where(good, data, np.float32(self.config.nan_value))

    def _with_geometry(
        self, data: np.ndarray, affine: np.ndarray, path: Path, mark: Mark | None, kind: str
    ) -> tuple[np.ndarray, Geometry]:
        flat = data.shape[2] == 1 and (self.config.dims or (len(mark.shape) if mark and mark.shape else 2)) == 2
        if flat:
            data = data[..., 0]
        geometry = Geometry(affine=affine, shape=data.shape, source_header={"dtype": kind})
        if self.config.dims == 2 and not flat:
            return select_slice(data, geometry, self.config.volume, path, read_mask)
        return data, geometry if mark is None else _as_marked(geometry, mark, path)


def read_mask(path: Path) -> Sample:
    """Read a mask of a volume: three axes, on any grid."""
    return NiftiReaderConfig(modality="slice_mask", dims=3).build().read(path)


def _format(spacing: np.ndarray) -> str:
    return " x ".join(f"{step:.3g}" for step in spacing)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Give the image whose voxels are not read yet; read a compressed file to its end afterwards."""
    import nibabel

    with _header_warnings(path):
        image = nibabel.load(path, mmap=False)
    if not isinstance(image, (nibabel.Nifti1Image, nibabel.Nifti2Image)):
        raise UserError(f"{path}: is {type(image).__name__}, expected a NIfTI file in one piece")
    if path.suffix != ".gz":
        yield image
        return
    with gzip.open(path) as stream:
        with _header_warnings(path, silent=True):
            again = type(image).from_stream(stream)
        yield again
        _read_to_end(stream, path)


def _read_to_end(stream: gzip.GzipFile, path: Path) -> None:
    """Read what is left of a compressed stream, so that its checksum is compared; `UserError` for very much."""
    left = 0
    while part := stream.read(_CHUNK):
        left += len(part)
        if left > _MOST_LEFT:
            raise UserError(f"{path}: holds more than {_MOST_LEFT >> 20} MiB behind its image; export it again")


@contextmanager
def _header_warnings(path: Path, *, silent: bool = False) -> Iterator[None]:
    """Warn of what nibabel repairs in a header, or say nothing a second time.

    It prints repairs, and repeats as text the errors that it raises.
    """
    logger, messages = logging.getLogger("nibabel.global"), list[str]()

    def collect(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger.addFilter(collect)
    try:
        yield
    finally:
        logger.removeFilter(collect)
    for line in () if silent else messages:
        warnings.warn(MedWeaveWarning(f"{path}: its header was repaired while reading: {line}"), stacklevel=2)


def _as_marked(geometry: Geometry, mark: Mark, path: Path) -> Geometry:
    """Return the written geometry to the last bit; the header's (float32) where the image was moved since."""
    written = mark.geometry(geometry.shape, path)
    if written is None or not np.array_equal(written.affine.astype(np.float32), geometry.affine.astype(np.float32)):
        return geometry
    return written


class NiftiWriterConfig(PartConfig):
    """A writer of NIfTI. ``float32`` is exact; ``int16`` stores multiples of ``step`` units (1 HU, say)."""

    units: str = "a.u."
    dtype: Literal["float32", "int16"] = "float32"
    step: PositiveFloat = 1.0
    suffix: Literal[".nii.gz", ".nii"] = ".nii.gz"

    def build(self) -> NiftiWriter:
        """Make the writer."""
        return NiftiWriter(self)


class NiftiWriter:
    """Writes float32 ``1 *space``; a slice becomes a volume ``(X, Y, 1)``. ``tolerance``: half a step, in units."""

    def __init__(self, config: NiftiWriterConfig) -> None:
        self.config = config
        self.suffix = config.suffix
        self.tolerance = 0.0 if config.dtype == "float32" else 0.5 * config.step

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Write ``path`` and ``<path>.json``, or neither.

        Raises `UserError` where the file exists, the name has another suffix, or the sample has no geometry, more
        than one channel, or values beyond what the type stores.
        """
        path = Path(path)
        if not path.name.endswith(self.suffix):
            raise UserError(f"{path}: this writer makes {self.suffix}")
        image, mark = self._image(sample, provenance, path)
        write_marked(path, mark, image.to_filename, overwrite=overwrite)

    def _image(self, sample: Sample, provenance: Provenance, path: Path) -> tuple[Any, Mark]:
        import nibabel

        data, geometry = require_storable(sample, path, axes=(2, 3)), sample.geometry
        if geometry is None or data.shape[0] != 1:
            fault = "no geometry" if geometry is None else f"{data.shape[0]} channels"
            raise UserError(f"{path}: the sample has {fault}; NIfTI takes one channel with its geometry")
        volume = data[0] if data.ndim == 4 else data[0][..., None]
        mark = Mark.of(sample, provenance, self.config.units)
        image = nibabel.Nifti1Image(self._quantize(volume, path), geometry.affine)
        if self.config.dtype == "int16":
            image.header.set_slope_inter(self.config.step, 0.0)
        _set_affine(image, geometry)
        mark_nifti(image.header, mark)
        return image, mark

    def _quantize(self, volume: np.ndarray, path: Path) -> np.ndarray:
        if not np.isfinite(volume).all():
            raise UserError(f"{path}: the sample has NaN or infinite values")
        if self.config.dtype == "float32":
            return volume.astype(np.float32)
        levels = np.rint(volume.astype(np.float64) / self.config.step)
        if np.abs(levels).max() > np.iinfo(np.int16).max:
            raise UserError(
                f"{path}: values to {np.abs(volume).max():g} do not fit int16 with step {self.config.step:g}"
            )
        return levels.astype(np.int16)


def _set_affine(image: Any, geometry: Geometry) -> None:
    """Set both forms where a rotation can express the affine; the sform alone where axes are oblique to each other."""
    image.header.set_xyzt_units("mm")
    image.set_sform(geometry.affine, code=1)
    axes = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    square = np.allclose(axes.T @ axes, np.eye(3), atol=1e-5)
    image.set_qform(geometry.affine, code=1 if square else 0, strip_shears=True)
