"""Define MRI: an acquisition of unspecified contrast, and a modality for each known contrast."""

from __future__ import annotations

from typing import Literal

from core.api import AugmenterConfig, Modality, Parts, PercentileNormalizationConfig
from core.io import (
    AnyFormatReaderConfig,
    DicomSeriesWriterConfig,
    ImageReaderConfig,
    NiftiReaderConfig,
    NiftiWriterConfig,
    SeriesReaderConfig,
)
from core.nn import GridNetworks, grid_networks

_GENERATED_RANGE = (0.0, 1000.0)  # a.u. of images that no scanner scaled
_FIELD_MM = 400.0  # that of CT, so that a registered pair shows one plane; for heads set preprocess.spacing_mm


def _parts(modality: str, networks: GridNetworks) -> Parts:
    space = networks.space
    dims: Literal[2, 3] = 2 if len(space) == 2 else 3
    preprocess = PercentileNormalizationConfig(
        space=space,
        spacing_mm=networks.spacing_mm(_FIELD_MM),
        # Axial rows run posterior and columns to the patient's left, as displayed; slices run superior.
        orientation="PL" if dims == 2 else "SPL",
        value_range=_GENERATED_RANGE,
    )
    # Units are arbitrary anyway, so an exported slice is as good as a NIfTI one.
    image = ImageReaderConfig(modality=modality, orientation="PL") if dims == 2 else None
    return Parts(
        data=preprocess.spec,
        reader=AnyFormatReaderConfig(
            nifti=NiftiReaderConfig(modality=modality, dims=dims),
            image=image,
            series=SeriesReaderConfig(modality=modality, dims=dims, kinds=("MR",)),
        ),
        preprocess=preprocess,
        augment=AugmenterConfig(bias_field=0.2),
        prompt=networks.prompt,
        autoencoder=networks.autoencoder,
        denoiser=networks.denoiser,
        writer=NiftiWriterConfig(),
        exports={"dicom": DicomSeriesWriterConfig(kind="MR", dims=dims, series_number=_SERIES[modality])},
    )


_PRESETS = ("tiny", "tiny3d", "small", "paper")
_TITLES = {
    "mri": "MRI, contrast not specified",
    "mri_t1": "MRI, T1-weighted",
    "mri_t1c": "MRI, T1-weighted with contrast agent",
    "mri_t2": "MRI, T2-weighted",
    "mri_pd": "MRI, proton density",
    "mri_flair": "MRI, FLAIR",
}
_SERIES = {name: 501 + index for index, name in enumerate(_TITLES)}
MODALITIES = tuple(
    Modality(name=name, title=title, presets={preset: _parts(name, grid_networks(preset)) for preset in _PRESETS})
    for name, title in _TITLES.items()
)
