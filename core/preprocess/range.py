"""Preprocessing between fixed bounds, for data whose units mean something (Hounsfield units, shares of full scale)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from core.preprocess.grid import GridConfig, GridPreprocess


class RangePreprocessConfig(GridConfig):
    """Clip to ``[low, high]`` in ``units`` and map these to -1 and 1. See `GridConfig` for the grid.

    ``window``: a name among ``windows``, in place of ``low`` and ``high``. A window is centre and width; it reaches
    from centre - width / 2 to centre + width / 2 (LINEAR_EXACT, PS3.3 C.11.2.1.3.2).
    """

    low: float
    high: float
    window: str | None = None
    windows: Mapping[str, tuple[float, PositiveFloat]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _bounds_in_order(self) -> RangePreprocessConfig:
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

    def build(self) -> RangePreprocess:
        """Make the preprocessor."""
        return RangePreprocess(self)


class RangePreprocess(GridPreprocess):
    """The same bounds for every sample."""

    def __init__(self, config: RangePreprocessConfig) -> None:
        # Rounding of float32 in two multiplications and a sum.
        low, high = config.value_bounds
        super().__init__(config, tolerance=1e-6 * (high - low))

    def bounds(self, data: np.ndarray) -> tuple[float, float]:
        """The configured bounds, whatever the sample holds."""
        return self.config.value_bounds
