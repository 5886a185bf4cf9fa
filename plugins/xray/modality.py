"""Define both views: the same networks, a shared image encoder (MedCoDi-M) and the common image autoencoder."""

from __future__ import annotations

from core.api import AugmenterConfig, Modality, Parts, Shared, WindowNormalizationConfig
from core.io import (
    AnyFormatReaderConfig,
    DicomRadiographWriterConfig,
    ImageReaderConfig,
    ImageWriterConfig,
    RadiographReaderConfig,
    View,
)
from core.nn import GridNetworks, grid_networks

_FIELD_MM = 430.0  # side of a 43 cm detector
_RANGE = (0.0, 1.0)  # fraction of the largest number of the bit depth (MedCoDi-M 3.1)


def _parts(
    modality: str, orientation: str, view: View, export: DicomRadiographWriterConfig, networks: GridNetworks
) -> Parts:
    preprocess = WindowNormalizationConfig(
        space=networks.space,
        spacing_mm=networks.spacing_mm(_FIELD_MM),
        orientation=orientation,
        low=_RANGE[0],
        high=_RANGE[1],
        projection=True,
    )
    return Parts(
        data=preprocess.spec,
        reader=AnyFormatReaderConfig(
            image=ImageReaderConfig(modality=modality, orientation=orientation, value_range=_RANGE, projection=True),
            radiograph=RadiographReaderConfig(modality=modality, orientation=orientation, views=(view,)),
        ),
        preprocess=preprocess,
        augment=AugmenterConfig(),
        prompt=Shared("xray.prompt", networks.prompt),
        autoencoder=networks.autoencoder,
        denoiser=networks.denoiser,
        writer=ImageWriterConfig(value_range=_RANGE),
        exports={"dicom": export},
    )


def _view(name: str, title: str, orientation: str, view: View, export: DicomRadiographWriterConfig) -> Modality:
    # A projection has no volumes: tiny3d is tiny.
    sizes = {"tiny": "tiny", "tiny3d": "tiny", "small": "small", "paper": "paper"}
    presets = {preset: _parts(name, orientation, view, export, grid_networks(size)) for preset, size in sizes.items()}
    return Modality(name=name, title=title, presets=presets)


# Rows run inferior. Columns run to the patient's left in a frontal view as displayed, and posterior in a lateral one.
_PA = DicomRadiographWriterConfig(view="PA", series_number=201)
_LL = DicomRadiographWriterConfig(view="LL", series_number=202)
FRONTAL = _view("xray_frontal", "Chest X-ray, frontal", "IL", "frontal", _PA)
LATERAL = _view("xray_lateral", "Chest X-ray, lateral", "IP", "lateral", _LL)
