"""Speckle: the grain of ultrasound, which multiplies the signal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from core.api import PartConfig, Sample, ViewsConfig

if TYPE_CHECKING:
    from torch import Generator


class SpeckleViewsConfig(PartConfig):
    """The stock views, then multiplicative noise of standard deviation ``speckle``."""

    views: ViewsConfig = ViewsConfig(noise=0.0)
    speckle: float = 0.15

    def build(self) -> SpeckleViews:
        """Make the augmenter."""
        return SpeckleViews(self)


class SpeckleViews:
    """Views of ``channel H W`` in [-1, 1]."""

    def __init__(self, config: SpeckleViewsConfig) -> None:
        self.config = config
        self.views: Any = config.views.build()
        self.keeps = self.views.keeps

    def view(self, sample: Sample, generator: Generator) -> Sample:
        """A view drawn from ``generator``, the only source of randomness."""
        import torch

        sample = self.views.view(sample, generator)
        data = np.asarray(sample.data)
        grain = torch.randn(data.shape, generator=generator).numpy()
        light = (data + 1) / 2 * (1 + self.config.speckle * grain)
        return replace(sample, data=np.clip(light * 2 - 1, -1, 1).astype(np.float32))
