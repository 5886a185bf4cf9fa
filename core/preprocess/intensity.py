"""Normalise intensities to [-1, 1], between fixed bounds or between percentiles of each sample.

Fixed bounds suit data whose units have a meaning (Hounsfield units, fractions of full scale), percentiles suit
arbitrary units (MRI). The bias field that receive coils leave in MR images can be removed first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from core.contract.modality import PartConfig
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
    def _require_bounds(self) -> WindowNormalizationConfig:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.window is not None and self.window not in self.windows:
            raise ValueError(f"window '{self.window}' is not among {', '.join(self.windows) or 'the windows: none'}")
        return self

    @property
    def value_bounds(self) -> tuple[float, float]:
        """Return the bounds, the same for every sample."""
        if self.window is None:
            return self.low, self.high
        centre, width = self.windows[self.window]
        return centre - width / 2, centre + width / 2

    def build(self) -> WindowNormalization:
        """Make the preprocessor."""
        return WindowNormalization(self)


def windows_of(preprocess: PartConfig | None) -> dict[str, tuple[float, float]]:
    """Return the windows that a modality declares, centre and width by name, in its order; none without any.

    A window whose centre lies outside the range of the data is left out.
    """
    if not isinstance(preprocess, WindowNormalizationConfig):
        return {}
    low, high = preprocess.value_bounds
    return {
        name.replace("_", " "): (centre, width)
        for name, (centre, width) in preprocess.windows.items()
        if low <= centre <= high
    }


class WindowNormalization(GridPreprocess):
    """Normalise between the same bounds for every sample."""

    def __init__(self, config: WindowNormalizationConfig) -> None:
        # Rounding of float32 in two multiplications and a sum.
        low, high = config.value_bounds
        super().__init__(config, tolerance=1e-6 * (high - low))

    def bounds(self, data: np.ndarray) -> tuple[float, float]:
        """Return the configured bounds, whatever the sample holds."""
        return self.config.value_bounds


class N4Config(BaseModel):
    """N4ITK (Tustison et al., IEEE TMI 29:1310, 2010), by SimpleITK.

    ``iterations``: at most so many per level, one entry per level. ``shrink``: the field is smooth, so it is estimated
    on every so many points per axis, as is usual; the factor is smaller where an axis would get fewer than 32 points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: tuple[PositiveInt, ...] = (50, 50, 50, 50)
    shrink: PositiveInt = 4


Percent = Annotated[float, Field(ge=0, le=100)]


class PercentileNormalizationConfig(GridConfig):
    """Clip to the ``lower`` and ``upper`` percentile of the sample (MediSyn: 0.5 and 99.5) and map them to -1 and 1.

    ``meta["range"]`` holds the two values, so that ``invert`` restores the units of the sample. A generated sample has
    none: it gets ``value_range``. A constant sample becomes -1 everywhere. ``bias``: the bias field is removed first,
    and is not put back: ``invert`` gives the corrected image. It needs the extra ``bias``.
    """

    lower: Percent = 0.5
    upper: Percent = 99.5
    value_range: tuple[float, float] = (0.0, 1.0)
    bias: N4Config | None = None

    @model_validator(mode="after")
    def _require_bounds(self) -> PercentileNormalizationConfig:
        if not self.lower < self.upper or not self.value_range[0] < self.value_range[1]:
            raise ValueError("lower must be below upper, and value_range rising")
        return self

    @property
    def value_bounds(self) -> tuple[float, float]:
        """Return the bounds of a generated sample; other samples have theirs in ``meta``."""
        return self.value_range

    def build(self) -> PercentileNormalization:
        """Make the preprocessor."""
        return PercentileNormalization(self)


class PercentileNormalization(GridPreprocess):
    """Normalise between the percentiles of each sample.

    Values between the percentiles are restored up to rounding. ``tolerance``, a tenth of ``value_range``, is what
    clipping costs the peaks of a smooth image; bright outliers (vessels, artefacts) can lose more, as intended.
    """

    def __init__(self, config: PercentileNormalizationConfig) -> None:
        low, high = config.value_range
        super().__init__(config, tolerance=0.1 * (high - low))
        self.percents = (config.lower, config.upper)
        self.bias = config.bias
        if self.bias is not None:
            require_simpleitk()

    def apply(self, sample: Sample) -> Sample:
        """Return the canonical form, as of a grid; the bias field is removed where that is configured."""
        if self.bias is None or is_canonical(sample):
            return super().apply(sample)
        data, geometry = self._require_source(sample)
        channels = [remove_bias_field(channel, geometry.spacing_mm, self.bias) for channel in data]
        return super().apply(replace(sample, data=np.stack(channels)))

    def bounds(self, data: np.ndarray) -> tuple[float, float]:
        """Return the two percentiles over all values."""
        low, high = (float(value) for value in np.percentile(data, self.percents))
        tiny = 1e-6 * max(1.0, abs(low), abs(high))
        return (low, high) if high - low > tiny else (low, low + 1.0)


_MIN_POINTS = 32  # points per axis that the grid of the estimate has at least
_MIN_FOREGROUND = 64  # points of foreground below which no field can be estimated


def require_simpleitk() -> None:
    """Raise `UserError` that names the extra, where SimpleITK is not installed."""
    try:
        import SimpleITK  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"bias correction by N4 needs SimpleITK ({error}): pip install 'medweave[bias]', or leave out"
            " preprocess.bias"
        ) from error


def remove_bias_field(data: np.ndarray, spacing_mm: tuple[float, ...], config: N4Config) -> np.ndarray:
    """Divide ``*space`` by its bias field, in the same units; float32.

    The foreground is what lies above Otsu's threshold. An image with almost no foreground, such as a constant one, is
    returned unchanged. One thread is used, so that the same image gives the same numbers everywhere.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data, dtype=np.float32))
    image.SetSpacing([float(step) for step in reversed(spacing_mm)])
    mask = _foreground(image, data)
    factors = [max(1, min(config.shrink, size // _MIN_POINTS)) for size in reversed(data.shape)]
    small, small_mask = SimpleITK.Shrink(image, factors), SimpleITK.Shrink(mask, factors)
    if SimpleITK.GetArrayViewFromImage(small_mask).sum() < _MIN_FOREGROUND:
        return np.asarray(data, dtype=np.float32)
    estimate = SimpleITK.N4BiasFieldCorrectionImageFilter()
    estimate.SetNumberOfThreads(1)
    estimate.SetMaximumNumberOfIterations(list(config.iterations))
    estimate.Execute(small, small_mask)
    field = SimpleITK.GetArrayFromImage(estimate.GetLogBiasFieldAsImage(image))
    return (np.asarray(data, dtype=np.float64) / np.exp(field)).astype(np.float32)


def _foreground(image: Any, data: np.ndarray) -> Any:
    import SimpleITK

    constant = not np.ptp(data) > 0
    above = np.zeros(data.shape) if constant else SimpleITK.GetArrayFromImage(SimpleITK.OtsuThreshold(image, 0, 1, 200))
    # N4 takes logarithms.
    mask = SimpleITK.GetImageFromArray(((above > 0) & (data > 0)).astype(np.uint8))
    mask.CopyInformation(image)
    return mask
