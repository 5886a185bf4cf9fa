"""Read label maps, whatever numbers their files use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import model_validator

from core.api import PartConfig, Sample, UserError
from core.io import AnyFormatReaderConfig


class MaskReaderConfig(PartConfig):
    """A reader of label maps: NIfTI, MetaImage, pictures of one channel and DICOM segmentations, as ``scan`` states.

    ``values``: the number that a file has for label 1, 2, ...; left out, the files themselves have 1, 2, ... Several
    numbers may stand for one label: ``[[1, 4], 2]``. ``others``: whether another number than 0 and these is refused or
    means nothing. For segmentations both hold where segments are matched by number.
    """

    scan: AnyFormatReaderConfig
    values: tuple[int | tuple[int, ...], ...] | None = None
    others: Literal["refuse", "nothing"] = "refuse"

    @model_validator(mode="after")
    def _require_numbers(self) -> MaskReaderConfig:
        numbers = [number for group in self.groups for number in group]
        if 0 in numbers or len(set(numbers)) < len(numbers):
            raise ValueError("values are different numbers, and 0 is nothing")
        return self

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Return the numbers of each label."""
        return tuple(value if isinstance(value, tuple) else (value,) for value in self.values or ())

    def build(self) -> MaskReader:
        """Make the reader."""
        return MaskReader(self)


class MaskReader:
    """Read a map into float32 ``1 *space`` of whole numbers: 0 is nothing, then come the labels."""

    def __init__(self, config: MaskReaderConfig) -> None:
        self.config = config
        self._scan = config.scan.build()
        self.suffixes = self._scan.suffixes

    def read(self, path: Path) -> Sample:
        """Return the map with its geometry; `UserError` names the file: as of a scan, or a number that is no label."""
        sample = self._scan.read(path)
        data = np.asarray(sample.data)
        wrong = data[(data != np.rint(data)) | (data < 0)]
        if wrong.size:
            raise UserError(f"{path}: holds {wrong.flat[0]:g}, but labels are whole numbers from 0; convert the file")
        # What MedWeave wrote, and what was matched by a code or name, has the labels' own numbers.
        if self.config.values is None or sample.meta.get("synthetic") or sample.meta.get("matched"):
            return sample
        return replace(sample, data=self._to_labels(data, path))

    def _to_labels(self, data: np.ndarray, path: Path) -> np.ndarray:
        labels, groups = np.zeros_like(data), self.config.groups
        for label, group in enumerate(groups, 1):
            labels[np.isin(data, group)] = label
        known = [number for group in groups for number in group]
        other = data[~np.isin(data, (0, *known))]
        if other.size and self.config.others == "refuse":
            raise UserError(
                f"{path}: holds {other.flat[0]:g}, and values names {', '.join(map(str, known))}; add it, or set"
                " others = 'nothing'"
            )
        return labels
