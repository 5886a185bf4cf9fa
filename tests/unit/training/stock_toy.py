"""A toy modality with the stock networks of images, and a cohort that has it beside the toy description."""

from dataclasses import replace

from core.api import DatasetAdapter, Modality, Shared, hookimpl
from core.nn import GridAutoencoderConfig, GridPromptEncoderConfig
from core.testing.toy import TOY_GRID, scan, write_cohort

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


def _scan(root):
    for record in scan(root):
        yield replace(record, files={**record.files, "stock_grid": record.files["toy_grid"]})


@hookimpl
def register_modalities():
    return [STOCK_GRID]


@hookimpl
def register_datasets():
    return [
        DatasetAdapter(
            name="stock_toys",
            title="Toys for stock networks",
            modalities=("toy_vector", "toy_grid", "stock_grid"),
            licence="Apache-2.0",
            citation="MedWeave",
            scan=_scan,
            make=lambda root, seed=0: write_cohort(root, 40, seed),
        )
    ]
