"""A third toy modality and a cohort of all three: the picture of `toy_grid` mirrored, as a stand-in for another view."""

from dataclasses import replace

from core.api import DatasetAdapter, Modality, hookimpl
from core.testing.toy import TOY_GRID, scan, write_cohort

_PARTS = TOY_GRID.parts("tiny")
TOY_VIEW = Modality(
    name="toy_view",
    title="Another view of the toy picture",
    presets={
        "tiny": replace(
            _PARTS,
            reader=_PARTS.reader.model_copy(update={"modality": "toy_view"}),
            autoencoder=_PARTS.autoencoder.model_copy(update={"modality": "toy_view"}),
        )
    },
)


def _scan(root):
    for record in scan(root):
        yield replace(record, files={**record.files, "toy_view": record.files["toy_grid"]})


@hookimpl
def register_modalities():
    return [TOY_VIEW]


@hookimpl
def register_datasets():
    return [
        DatasetAdapter(
            name="three_toys",
            title="Three toys",
            modalities=("toy_vector", "toy_grid", "toy_view"),
            licence="Apache-2.0",
            citation="MedWeave",
            scan=_scan,
            make=lambda root, seed=0: write_cohort(root, 60, seed),
        )
    ]
