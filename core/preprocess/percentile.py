"""Preprocessing between percentiles of each sample, for data in arbitrary units (MRI)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from core.preprocess.bias import N4Config, require_simpleitk, without_bias
from core.preprocess.grid import GridConfig, GridPreprocess, is_canonical
from core.types import Sample

Percent = Annotated[float, Field(ge=0, le=100)]


class PercentilePreprocessConfig(GridConfig):
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
    def _bounds_in_order(self) -> PercentilePreprocessConfig:
        if not self.lower < self.upper or not self.value_range[0] < self.value_range[1]:
            raise ValueError("lower must be below upper, and value_range rising")
        return self

    @property
    def value_bounds(self) -> tuple[float, float]:
        """Of a generated sample; others bring their own."""
        return self.value_range

    def build(self) -> PercentilePreprocess:
        """Make the preprocessor."""
        return PercentilePreprocess(self)


class PercentilePreprocess(GridPreprocess):
    """Bounds from each sample.

    Values between the percentiles come back to rounding; ``tolerance``, a tenth of ``value_range``, is what clipping
    costs the peaks of a smooth image. Bright outliers (vessels, artefacts) can lose more: that is what it is for.
    """

    def __init__(self, config: PercentilePreprocessConfig) -> None:
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
