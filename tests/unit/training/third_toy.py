"""A third toy modality and a cohort of all three: the picture of `toy_grid` once more, as if it were another view."""

from dataclasses import replace

from core.api import Modality, hookimpl
from core.testing.toy import TOY_GRID
from tests.unit.training.toy_cohort import toys_with

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


@hookimpl
def register_modalities():
    return [TOY_VIEW]


@hookimpl
def register_datasets():
    return [toys_with("toy_view", name="three_toys", num=60)]
