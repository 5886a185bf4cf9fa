"""A toy modality with the stock networks of images, and a cohort that has it beside the toy description."""

from dataclasses import replace

from core.api import Modality, Shared, hookimpl
from core.nn import GridAutoencoderConfig, GridPromptEncoderConfig
from core.testing.toy import TOY_GRID
from tests.unit.training.toy_cohort import toys_with

_PARTS = TOY_GRID.parts("tiny")
STOCK_GRID = Modality(
    name="stock_grid",
    title="The toy picture, with stock networks",
    presets={
        "tiny": replace(
            _PARTS,
            reader=_PARTS.reader.model_copy(update={"modality": "stock_grid"}),
            autoencoder=Shared(
                "stock.autoencoder",
                GridAutoencoderConfig(
                    channels=1,
                    space=(8, 8),
                    latent_channels=2,
                    downsample=2,
                    widths=(4, 8),
                    num_blocks=1,
                    norm_groups=4,
                ),
            ),
            prompt=GridPromptEncoderConfig(
                channels=1, space=(8, 8), patch=4, width=16, depth=2, num_heads=2, prompt_width=16
            ),
        )
    },
)


@hookimpl
def register_modalities():
    return [STOCK_GRID]


@hookimpl
def register_datasets():
    return [toys_with("stock_grid", name="stock_toys", num=40)]
