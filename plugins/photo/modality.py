"""Define the same parts for every kind of photograph: only the name and the caption differ.

MediSyn has a common denoiser for all its image types, which captions alone distinguish; so have these seven. Kinds that
are grey in the file (OCT, ultrasound) get three equal channels, because the shared networks have three.
"""

from __future__ import annotations

from core.api import AugmenterConfig, Modality, Parts, Shared, WindowNormalizationConfig
from core.io import ImageReaderConfig, ImageWriterConfig
from core.nn import GridNetworks, grid_networks

_RANGE = (0.0, 1.0)  # fraction of full scale
_ORIENTATION = "IL"  # rows run down and columns right, as displayed: the screen's frame, not the patient's
_TITLES = {
    "photo_dermoscopy": "Dermoscopy",
    "photo_fundus": "Fundus photograph",
    "photo_oct": "Optical coherence tomography, B-scan",
    "photo_histopathology": "Histopathology",
    "photo_endoscopy": "Endoscopy",
    "photo_smear": "Blood smear",
    "photo_ultrasound": "Ultrasound",
}


def _parts(modality: str, networks: GridNetworks) -> Parts:
    preprocess = WindowNormalizationConfig(
        space=networks.space,
        # Nominal: pictures do not say how large a pixel is.
        spacing_mm=(1.0,) * len(networks.space),
        orientation=_ORIENTATION,
        channels=3,
        low=_RANGE[0],
        high=_RANGE[1],
        unplaced=True,
    )
    return Parts(
        data=preprocess.spec,
        reader=ImageReaderConfig(
            modality=modality, orientation=_ORIENTATION, channels=3, value_range=_RANGE, convert=True, unplaced=True
        ),
        preprocess=preprocess,
        # A linear map common to all channels keeps the hue, a power of each channel would not.
        augment=AugmenterConfig(gamma=0.0, window=0.08, noise=0.02),
        prompt=Shared("photo.prompt", networks.prompt),
        autoencoder=networks.autoencoder,
        denoiser=Shared("photo.denoiser", networks.denoiser),
        writer=ImageWriterConfig(value_range=_RANGE, bits=8),
    )


def _modality(name: str, title: str) -> Modality:
    # A photograph has no volumes: tiny3d is tiny.
    sizes = {"tiny": "tiny", "tiny3d": "tiny", "small": "small", "paper": "paper"}
    presets = {preset: _parts(name, grid_networks(size, channels=3)) for preset, size in sizes.items()}
    return Modality(name=name, title=title, presets=presets)


MODALITIES = tuple(_modality(name, title) for name, title in _TITLES.items())
