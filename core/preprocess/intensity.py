"""Preprocessing between fixed bounds, for data whose units mean something (Hounsfield units, shares of full scale).

Preprocessing between percentiles of each sample, for data in arbitrary units (MRI).

The slow change of brightness that receive coils leave in MR images, estimated and taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from core.errors import UserError
from core.preprocess.grid import GridConfig, GridPreprocess, is_canonical
from core.types import Sample


class WindowNormalizationConfig(GridConfig):
    """Clip to ``[low, high]`` in ``units`` and map these to -1 and 1. See `GridConfig` for the grid.

    ``window``: a name among ``windows``, in place of ``low`` and ``high``. A window is centre and width; it reaches
    from centre - width / 2 to centre + width / 2 (LINEAR_EXACT, PS3.3 C.11.2.1.3.2).
    """

    low: float
    high: float
    window: str | None = None
    windows: Mapping[str, tuple[float, PositiveFloat]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _bounds_in_order(self) -> WindowNormalizationConfig:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.window is not None and self.window not in self.windows:
            raise ValueError(f"window '{self.window}' is not among {', '.join(self.windows) or 'the windows: none'}")
        return self

    @property
    def value_bounds(self) -> tuple[float, float]:
        """The same for every sample."""
        if self.window is None:
            return self.low, self.high
        centre, width = self.windows[self.window]
        return centre - width / 2, centre + width / 2

    def build(self) -> WindowNormalization:
        """Make the preprocessor."""
        return WindowNormalization(self)


class WindowNormalization(GridPreprocess):
    """The same bounds for every sample."""

    def __init__(self, config: WindowNormalizationConfig) -> None:
        # Rounding of float32 in two multiplications and a sum.
        low, high = config.value_bounds
        super().__init__(config, tolerance=1e-6 * (high - low))

    def bounds(self, data: np.ndarray) -> tuple[float, float]:
        """The configured bounds, whatever the sample holds."""
        return self.config.value_bounds


Percent = Annotated[float, Field(ge=0, le=100)]


class PercentileNormalizationConfig(GridConfig):
    """Clip to the ``lower`` and ``upper`` percentile of the sample (MediSyn: 0.5 and 99.5) and map them to -1 and 1.

    The two values found are kept in ``meta["range"]``, so that ``invert`` restores the sample's own units. A
    generated sample has none: it gets ``value_range``. A constant sample becomes -1 everywhere. ``bias``: the bias
    field is taken out first, and stays out: ``invert`` gives the corrected image. It needs the extra ``bias``.
    """

    lower: Percent = 0.5
    upper: Percent = 99.5
    value_range: tuple[float, float] = (0.0, 1.0)
    bias: N4Config | None = None

    @model_validator(mode="after")
    def _bounds_in_order(self) -> PercentileNormalizationConfig:
        if not self.lower < self.upper or not self.value_range[0] < self.value_range[1]:
            raise ValueError("lower must be below upper, and value_range rising")
        return self

    @property
    def value_bounds(self) -> tuple[float, float]:
        """Of a generated sample; others bring their own."""
        return self.value_range

    def build(self) -> PercentileNormalization:
        """Make the preprocessor."""
        return PercentileNormalization(self)


class PercentileNormalization(GridPreprocess):
    """Bounds from each sample.

    Values between the percentiles come back to rounding; ``tolerance``, a tenth of ``value_range``, is what clipping
    costs the peaks of a smooth image. Bright outliers (vessels, artefacts) can lose more: that is what it is for.
    """

    def __init__(self, config: PercentileNormalizationConfig) -> None:
        low, high = config.value_range
        super().__init__(config, tolerance=0.1 * (high - low))
        self.percents = (config.lower, config.upper)
        self.bias = config.bias
        if self.bias is not None:
            require_simpleitk()

    def apply(self, sample: Sample) -> Sample:
        """The canonical form, as of a grid, the bias field taken out where that is asked for."""
        if self.bias is None or is_canonical(sample):
            return super().apply(sample)
        data, place = self._checked(sample)
        planes = [without_bias(channel, place.spacing_mm, self.bias) for channel in data]
        return super().apply(replace(sample, data=np.stack(planes)))

    def bounds(self, data: np.ndarray) -> tuple[float, float]:
        """The two percentiles over all values."""
        low, high = (float(value) for value in np.percentile(data, self.percents))
        tiny = 1e-6 * max(1.0, abs(low), abs(high))
        return (low, high) if high - low > tiny else (low, low + 1.0)


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
