"""Preprocessing between fixed bounds, for data whose units mean something (Hounsfield units, shares of full scale)."""

from __future__ import annotations

import numpy as np
from pydantic import model_validator

from core.preprocess.grid import GridConfig, GridPreprocess


class RangePreprocessConfig(GridConfig):
    """Clip to ``[low, high]`` in ``units`` and map these to -1 and 1. See `GridConfig` for the grid."""

    low: float
    high: float

    @model_validator(mode="after")
    def _bounds_in_order(self) -> RangePreprocessConfig:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        return self

    @property
    def value_bounds(self) -> tuple[float, float]:
        """The same for every sample."""
        return self.low, self.high

    def build(self) -> RangePreprocess:
        """Make the preprocessor."""
        return RangePreprocess(self)


class RangePreprocess(GridPreprocess):
    """The same bounds for every sample."""

    def __init__(self, config: RangePreprocessConfig) -> None:
        # Rounding of float32 in two multiplications and a sum.
        super().__init__(config, tolerance=1e-6 * (config.high - config.low))

    def bounds(self, data: np.ndarray) -> tuple[float, float]:
        """The configured bounds, whatever the sample holds."""
        return self.config.value_bounds
