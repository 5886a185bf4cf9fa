"""`Sample` to NIfTI, marked as synthetic in the header, in an extension and beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat

from core.contract.modality import PartConfig
from core.errors import UserError
from core.io.mark import SYNTHETIC, Mark, write_marked
from core.io.nifti import COMMENT
from core.io.storable import storable
from core.types import Geometry, Provenance, Sample

_DESCRIP_BYTES = 79  # the field has 80 and ends with a zero


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

        `UserError`: the file exists, the name has another suffix, no geometry, more than one channel, or values
        beyond what the type stores.
        """
        path = Path(path)
        if not path.name.endswith(self.suffix):
            raise UserError(f"{path}: this writer makes {self.suffix}")
        image, mark = self._image(sample, provenance, path)
        write_marked(path, mark, image.to_filename, overwrite=overwrite)

    def _image(self, sample: Sample, provenance: Provenance, path: Path) -> tuple[Any, Mark]:
        import nibabel
        from nibabel.nifti1 import Nifti1Extension

        data, place = storable(sample, path, axes=(2, 3)), sample.geometry
        if place is None or data.shape[0] != 1:
            found = "no geometry" if place is None else f"{data.shape[0]} channels"
            raise UserError(f"{path}: the sample has {found}; NIfTI takes one channel with its geometry")
        volume = data[0] if data.ndim == 4 else data[0][..., None]
        mark = Mark.of(sample, provenance, self.config.units)
        image = nibabel.Nifti1Image(self._stored(volume, path), place.affine)
        if self.config.dtype == "int16":
            image.header.set_slope_inter(self.config.step, 0.0)
        _place(image, place)
        image.header["descrip"] = _descrip(mark)
        content = mark.model_dump_json(exclude_none=True).encode()
        image.header.extensions.append(Nifti1Extension(COMMENT, content))
        return image, mark

    def _stored(self, volume: np.ndarray, path: Path) -> np.ndarray:
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


def _place(image: Any, geometry: Geometry) -> None:
    """Both forms where a rotation can say it; the sform alone where axes are oblique to each other."""
    image.header.set_xyzt_units("mm")
    image.set_sform(geometry.affine, code=1)
    axes = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    square = np.allclose(axes.T @ axes, np.eye(3), atol=1e-5)
    image.set_qform(geometry.affine, code=1 if square else 0, strip_shears=True)


def _descrip(mark: Mark) -> bytes:
    return f"{SYNTHETIC} ({mark.provenance.model})".encode("ascii", "replace")[:_DESCRIP_BYTES]
