"""A generated study in memory: arrays with geometry, texts, where it came from, and how it is saved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError, unknown_name
from core.generate.output.contact_sheet import columns_of, contact_sheet, with_warning
from core.generate.output.writers import StudyNotes, write_study, writers_of
from core.generate.request import ResolvedRequest, provenance_of
from core.io.provenance import atomic_folder
from core.types import Geometry, Provenance, Sample

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Study(Mapping[str, Any]):
    """One generated study. ``study["ct"]`` is an array in original units, ``study["text"]`` a string.

    Arrays are float32 ``channel *space``, their axes as `geometry` says (in RAS world coordinates). ``shown`` holds the
    samples as a picture shows them. ``index`` is its number in the request that made it.
    """

    index: int
    samples: Mapping[str, Sample]
    shown: Mapping[str, Sample]
    resolved: ResolvedRequest

    def __getitem__(self, modality: str) -> np.ndarray | str:
        if modality not in self.samples:
            raise KeyError(modality)
        return self.samples[modality].data

    def __iter__(self) -> Iterator[str]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def geometry(self, modality: str) -> Geometry | None:
        """Return where an image lies in the patient (mm); ``None`` for a text."""
        if modality not in self.samples:
            raise unknown_name("output of this study", modality, self.samples)
        return self.samples[modality].geometry

    def provenance(self, modality: str) -> Provenance:
        """Return how an output was made: model, weights, prompts, seed, sampling. Every saved file holds it."""
        return provenance_of(self.resolved, self.index, modality)

    def picture(self) -> Image:
        """Return all outputs side by side, below a strip that says synthetic."""
        columns = columns_of(self.resolved.bundle.run, self.samples)
        return with_warning(contact_sheet([dict(self.shown)], columns, [f"study {self.index}"]))

    def save(self, folder: str | Path, format: str | None = None) -> Path:
        """Write the study into a new folder and return it: a file per output, marked as synthetic.

        ``format`` is that of every output (``"dicom"``), each modality's default where left out. The folder appears
        whole or not at all. Raises `UserError` where it exists, or an output has no such format.
        """
        folder = Path(folder)
        if folder.exists():
            raise UserError(f"{folder}: exists already; name a new folder for the study")
        writers = writers_of(self.resolved.bundle.run, tuple(self.samples), format)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder, "") as unfinished:
            write_study(self.resolved, writers, self.index, self.samples, folder.name, StudyNotes(), unfinished)
        return folder

    def __repr__(self) -> str:
        parts = [f"{name}: {_summary(sample)}" for name, sample in self.samples.items()]
        return f"<Study {self.index}: {'; '.join(parts)}>"


def _summary(sample: Sample) -> str:
    if isinstance(sample.data, str):
        return json.dumps(sample.data if len(sample.data) < 60 else f"{sample.data[:57]}...")
    return " x ".join(map(str, sample.data.shape))
