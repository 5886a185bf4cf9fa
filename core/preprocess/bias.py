"""The slow change of brightness that receive coils leave in MR images, estimated and taken out."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from core.errors import UserError

_COARSEST = 32  # points per axis that the estimate keeps
_FEWEST = 64  # points of foreground below which there is nothing to estimate from


class N4Config(BaseModel):
    """N4ITK (Tustison et al., IEEE TMI 29:1310, 2010), by SimpleITK.

    ``iterations`` at most per level, the number of levels being theirs. ``shrink``: the field is estimated on every so
    many points per axis, as is usual, because it is smooth; fewer where an axis would get less than 32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: tuple[PositiveInt, ...] = (50, 50, 50, 50)
    shrink: PositiveInt = 4


def require_simpleitk() -> None:
    """`UserError` that names the extra, where SimpleITK is not installed."""
    try:
        import SimpleITK  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"bias correction by N4 needs SimpleITK ({error}): pip install 'medweave[bias]', or leave out"
            " preprocess.bias"
        ) from error


def without_bias(data: np.ndarray, spacing_mm: tuple[float, ...], config: N4Config) -> np.ndarray:
    """``*space`` divided by its bias field, in the same units; float32.

    The foreground is what lies above Otsu's threshold. An image with (almost) none, a constant one, say, has no field
    and stays as it is. One thread: the same image gives the same numbers everywhere.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data, dtype=np.float32))
    image.SetSpacing([float(step) for step in reversed(spacing_mm)])
    mask = _foreground(image, data)
    factors = [max(1, min(config.shrink, size // _COARSEST)) for size in reversed(data.shape)]
    small, small_mask = SimpleITK.Shrink(image, factors), SimpleITK.Shrink(mask, factors)
    if SimpleITK.GetArrayViewFromImage(small_mask).sum() < _FEWEST:
        return np.asarray(data, dtype=np.float32)
    estimate = SimpleITK.N4BiasFieldCorrectionImageFilter()
    estimate.SetNumberOfThreads(1)
    estimate.SetMaximumNumberOfIterations(list(config.iterations))
    estimate.Execute(small, small_mask)
    field = SimpleITK.GetArrayFromImage(estimate.GetLogBiasFieldAsImage(image))
    return (np.asarray(data, dtype=np.float64) / np.exp(field)).astype(np.float32)


def _foreground(image: Any, data: np.ndarray) -> Any:
    import SimpleITK

    found = (
        SimpleITK.GetArrayFromImage(SimpleITK.OtsuThreshold(image, 0, 1, 200))
        if np.ptp(data) > 0
        else np.zeros(data.shape)
    )
    # N4 takes logarithms.
    mask = SimpleITK.GetImageFromArray(((found > 0) & (data > 0)).astype(np.uint8))
    mask.CopyInformation(image)
    return mask
