"""Convert label maps to one channel per label, and back by the largest channel: labels are never mixed."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from core.contract.modality import PartConfig
from core.errors import UserError
from core.preprocess.augment import AugmentationParams, AugmenterConfig, Fraction, GridAugmenter, rotation, warp
from core.preprocess.grid import CANONICAL, GridConfig, GridPreprocess, is_canonical, sample_name
from core.preprocess.spatial import Resize
from core.types import LABEL_UNITS, Geometry, Sample


class LabelPreprocessConfig(GridConfig):
    """Label ``i`` of a map is ``labels[i - 1]``, 0 is nothing; channel ``i - 1`` is 1 where it lies, -1 elsewhere.

    Nothing has no channel: a point without a label is -1 in all. ``channels`` is the number of labels, because the
    networks were made for it. Resampling takes the nearest point; see `core.preprocess.spatial.nearest` on ties.
    """

    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    units: str = LABEL_UNITS
    resize: Resize = "nearest"

    @model_validator(mode="after")
    def _require_labels_fit(self) -> LabelPreprocessConfig:
        if (self.units, self.resize) != (LABEL_UNITS, "nearest"):
            raise ValueError("numbers that are names have units = 'label' and resize = 'nearest'")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("two labels have one name")
        if self.channels != len(self.labels):
            raise ValueError(f"there are {len(self.labels)} labels, but channels is {self.channels}")
        return self

    @property
    def value_bounds(self) -> tuple[float, float]:
        """Return 0 (nothing) and the last label."""
        return 0.0, float(len(self.labels))

    def build(self) -> LabelPreprocess:
        """Make the preprocessor."""
        return LabelPreprocess(self)


class LabelPreprocess(GridPreprocess):
    """Convert a label map, float32 ``1 *space`` of whole numbers, to ``channel *space`` and back.

    The conversion is exact on the canonical grid.
    """

    source_channels = 1

    def __init__(self, config: LabelPreprocessConfig) -> None:
        super().__init__(config, tolerance=0.0)
        self.labels = config.labels

    def bounds(self, data: np.ndarray) -> tuple[float, float]:
        """Return the range of the configured labels, whatever the sample holds."""
        return self.config.value_bounds

    def apply(self, sample: Sample) -> Sample:
        """Return the canonical form; `UserError` names the sample, as of a grid, or where a value is no label."""
        if is_canonical(sample):
            return sample
        data, geometry = self._require_source(sample)
        self._require_labels(data, sample)
        mapping = self._map_to_grid(geometry, sample)
        # Labels are resampled before they get channels, which would take as many times the memory.
        resampled = mapping.forward(data, 0.0, "nearest")
        numbers = np.arange(1, len(self.labels) + 1, dtype=np.float32).reshape(-1, *(1,) * len(self.config.space))
        channels = np.where(resampled == numbers, np.float32(1), np.float32(-1))
        meta = {**sample.meta, CANONICAL: True}
        return replace(sample, data=channels, geometry=self._canonical_geometry(mapping, geometry), meta=meta)

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """Return the label of the largest channel, 0 where none is above 0, on the grid of ``like`` or the default."""
        data = np.asarray(sample.data, dtype=np.float32)
        self._require_canonical(data)
        like = like or self.config.geometry
        label_map = np.where(data.max(0) > 0, data.argmax(0) + 1, 0).astype(np.float32)
        label_map = self._map_to_grid(like, sample).backward(label_map[None], "nearest")
        meta = {key: value for key, value in sample.meta.items() if key != CANONICAL}
        return replace(sample, data=label_map, geometry=like, meta={**meta, "units": self.config.units})

    def _require_labels(self, data: np.ndarray, sample: Sample) -> None:
        last = len(self.labels)
        wrong = data[(data != np.rint(data)) | (data < 0) | (data > last)]
        if wrong.size:
            raise UserError(
                f"{sample_name(sample)}: holds {wrong[0]:g}, which is no label (0 is nothing, 1 to {last} are"
                f" {', '.join(self.labels)}); set the reader's values, or the preprocessor's labels"
            )


class LabelAugmenterConfig(PartConfig):
    """Augmentation of a label map: moved as an image is (see `AugmenterConfig`), to the nearest point."""

    rotation_deg: Annotated[float, Field(ge=0, le=45)] = 7.0
    scale: Fraction = 0.08
    shift: Fraction = 0.04

    def build(self) -> LabelAugmenter:
        """Make the augmenter."""
        return LabelAugmenter(self)


class LabelAugmenter(GridAugmenter):
    """Augment ``channel *space`` of -1 and 1; the result holds nothing but -1 and 1."""

    def __init__(self, config: LabelAugmenterConfig) -> None:
        super().__init__(AugmenterConfig(**config.model_dump(), gamma=0.0, blur=0.0, noise=0.0))

    def apply(self, sample: Sample, params: AugmentationParams) -> Sample:
        """Move the sample, and change nothing else."""
        data, geometry = np.asarray(sample.data, dtype=np.float32), sample.geometry
        spacing = (1.0,) * (data.ndim - 1) if geometry is None else geometry.spacing_mm
        matrix = rotation(params.angles_deg, spacing) * params.scale
        data, moved = warp(data, matrix, np.array(params.shift), fill=-1.0, order=0)
        changed: dict[str, Any] = {"data": data.copy(), "meta": {**sample.meta, "view": params.as_dict()}}
        if geometry is not None:
            changed["geometry"] = replace(geometry, affine=geometry.affine @ moved)
        return replace(sample, **changed)
