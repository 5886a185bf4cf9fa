"""Label maps: axial slices at the 2-D presets, volumes at ``tiny3d``. One channel per label."""

from __future__ import annotations

from typing import Literal

from core.api import LabelAugmenterConfig, LabelPreprocessConfig, Modality, Parts
from core.io import (
    CHEST_FINDINGS,
    CHEST_ORGANS,
    AnyFormatReaderConfig,
    DicomSegWriterConfig,
    ImageReaderConfig,
    NiftiReaderConfig,
    NiftiWriterConfig,
    Segment,
    SegmentationReaderConfig,
    finding_segments,
    organ_segments,
)
from core.nn import GridNetworks, grid_networks
from plugins.mask.reader import MaskReaderConfig

_FIELD_MM = 400.0  # that of CT and MRI, so that a registered pair shows one plane
_PRESETS = ("tiny", "tiny3d", "small", "paper")


def _parts(modality: str, segments: tuple[Segment, ...], number: int, networks: GridNetworks) -> Parts:
    space = networks.space
    dims: Literal[2, 3] = 2 if len(space) == 2 else 3
    preprocess = LabelPreprocessConfig(
        space=space,
        spacing_mm=networks.spacing_mm(_FIELD_MM),
        # Axial rows run posterior and columns to the patient's left, as displayed; slices run superior.
        orientation="PL" if dims == 2 else "SPL",
        channels=len(segments),
        labels=tuple(segment.name for segment in segments),
    )
    scan = AnyFormatReaderConfig(
        nifti=NiftiReaderConfig(modality=modality, units="label", dims=dims),
        # Stored numbers are kept: they are the labels.
        image=ImageReaderConfig(modality=modality, orientation="PL", units="label") if dims == 2 else None,
        # Segments are numbered as their makers like: only a code says what one is.
        segmentation=SegmentationReaderConfig(modality=modality, dims=dims, segments=segments, match="code"),
    )
    return Parts(
        data=preprocess.spec,
        reader=MaskReaderConfig(scan=scan),
        preprocess=preprocess,
        augment=LabelAugmenterConfig(),
        prompt=networks.prompt,
        autoencoder=networks.autoencoder,
        denoiser=networks.denoiser,
        writer=NiftiWriterConfig(units="label", dtype="int16"),
        # The segmentation refers to the CT of the same study where there is one.
        exports={"dicom": DicomSegWriterConfig(segments=segments, dims=dims, source="ct", series_number=number)},
    )


def _modality(name: str, title: str, segments: tuple[Segment, ...], number: int) -> Modality:
    presets = {
        preset: _parts(name, segments, number, grid_networks(preset, channels=len(segments))) for preset in _PRESETS
    }
    return Modality(name=name, title=title, presets=presets)


ORGANS = _modality("mask_organs", "Map of organs", organ_segments(CHEST_ORGANS), 601)
FINDINGS = _modality("mask_findings", "Map of findings", finding_segments(CHEST_FINDINGS), 602)
