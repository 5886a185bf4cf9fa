"""The modality: stock parts for reading, preparing and writing pictures, stock networks, one augmenter of our own."""

from __future__ import annotations

from core.api import Modality, Parts, RangePreprocessConfig
from core.io import ImageReaderConfig, ImageWriterConfig
from core.nn import GridNetworks, grid_networks

from medweave_ultrasound.augment import SpeckleViewsConfig

NAME = "ultrasound"
# Rows run away from the probe, posterior in a supine patient. BUSI does not say how the probe was held: columns are
# taken to run left.
ORIENTATION = "PL"
FIELD_MM = 40.0
RANGE = (0.0, 1.0)


def _parts(networks: GridNetworks) -> Parts:
    """All parts at one size; what a sample looks like follows from the preprocessor."""
    preprocess = RangePreprocessConfig(
        space=networks.space,
        spacing_mm=networks.spacing_mm(FIELD_MM),
        orientation=ORIENTATION,
        low=RANGE[0],
        high=RANGE[1],
    )
    return Parts(
        data=preprocess.spec,
        reader=ImageReaderConfig(modality=NAME, orientation=ORIENTATION, value_range=RANGE),
        preprocess=preprocess,
        augment=SpeckleViewsConfig(),
        prompt=networks.prompt,
        autoencoder=networks.autoencoder,
        denoiser=networks.denoiser,
        writer=ImageWriterConfig(value_range=RANGE, bits=8),
    )


ULTRASOUND = Modality(
    name=NAME,
    title="Breast ultrasound",
    presets={preset: _parts(grid_networks(preset)) for preset in ("tiny", "small")},
)
