"""The toy cohort with one more modality, which has the pictures of `toy_grid`."""

from dataclasses import replace
from functools import partial

from core.api import DatasetAdapter
from core.testing.toy import scan, write_cohort


def toys_with(modality, *, name, num):
    """The adapter of ``num`` toy studies that hold ``modality`` too."""

    def scan_all(root):
        for record in scan(root):
            yield replace(record, files={**record.files, modality: record.files["toy_grid"]})

    return DatasetAdapter(
        name=name,
        title=f"Toys with {modality}",
        modalities=("toy_vector", "toy_grid", modality),
        licence="Apache-2.0",
        citation="MedWeave",
        scan=scan_all,
        make=partial(_make, num),
    )


def _make(num, root, seed=0):
    write_cohort(root, num, seed)
