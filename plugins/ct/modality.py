"""Define CT in Hounsfield units: axial slices at the 2-D presets, volumes at ``tiny3d``."""

from __future__ import annotations

from typing import Literal

from core.api import AugmenterConfig, Modality, Parts, WindowNormalizationConfig
from core.io import (
    AnyFormatReaderConfig,
    DicomSeriesWriterConfig,
    NiftiReaderConfig,
    NiftiWriterConfig,
    SeriesReaderConfig,
    Window,
)
from core.nn import GridNetworks, grid_networks

NAME = "ct"
_WINDOW_HU = (-1000.0, 1000.0)  # air to dense bone; what lies beyond is clipped
_FIELD_MM = 400.0
# Centre and width, HU: `ct.preprocess.window` takes one of these names. Pictures show the first two.
_NAMED = {
    "soft_tissue": (40.0, 400.0),
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "mediastinum": (50.0, 350.0),
    "brain": (40.0, 80.0),
    "medisyn": (100.0, 700.0),  # MediSyn: 700/100, width first
}
_WINDOWS = tuple(
    Window(name=name.replace("_", " "), centre=_NAMED[name][0], width=_NAMED[name][1])
    for name in ("soft_tissue", "lung", "bone")
)


def _parts(networks: GridNetworks) -> Parts:
    space = networks.space
    dims: Literal[2, 3] = 2 if len(space) == 2 else 3
    preprocess = WindowNormalizationConfig(
        space=space,
        spacing_mm=networks.spacing_mm(_FIELD_MM),
        # Axial rows run posterior and columns to the patient's left, as displayed; slices run superior.
        orientation="PL" if dims == 2 else "SPL",
        low=_WINDOW_HU[0],
        high=_WINDOW_HU[1],
        units="HU",
        windows=_NAMED,
    )
    return Parts(
        data=preprocess.spec,
        # Exported images have lost their Hounsfield units: they are read only where the settings state the scale.
        reader=AnyFormatReaderConfig(
            nifti=NiftiReaderConfig(modality=NAME, units="HU", dims=dims),
            series=SeriesReaderConfig(modality=NAME, units="HU", dims=dims, kinds=("CT",), rescale="require"),
        ),
        preprocess=preprocess,
        augment=AugmenterConfig(gamma=0.0, window=0.1),
        prompt=networks.prompt,
        autoencoder=networks.autoencoder,
        denoiser=networks.denoiser,
        writer=NiftiWriterConfig(units="HU", dtype="int16"),
        exports={
            "dicom": DicomSeriesWriterConfig(kind="CT", dims=dims, units="HU", windows=_WINDOWS, series_number=401)
        },
    )


_PRESETS = ("tiny", "tiny3d", "small", "paper")
CT = Modality(name=NAME, title="CT", presets={preset: _parts(grid_networks(preset)) for preset in _PRESETS})
