"""Label maps: axial slices at the 2-D presets, volumes at ``tiny3d``. One channel per label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from core.api import LabelPreprocessConfig, LabelViewsConfig, Modality, Parts
from core.io import (
    Code,
    DicomSegWriterConfig,
    ImageReaderConfig,
    NiftiReaderConfig,
    NiftiWriterConfig,
    ScanReaderConfig,
    Segment,
)
from core.nn import GridNetworks, grid_networks
from plugins.mask.reader import MaskReaderConfig

_FIELD_MM = 400.0  # that of CT and MRI, so that a registered pair shows one plane
_PRESETS = ("tiny", "tiny3d", "small", "paper")
_ABNORMAL = Code(value="49755003", meaning="Morphologically Abnormal Structure")  # PS3.16 CID 7150

# In the order of the phantom's numbers, 1 onwards; codes are SNOMED CT.
_ORGAN_CODES = {
    "body": ("38266002", "Entire body as a whole"),
    "lung": ("39607008", "Lung"),
    "heart": ("80891009", "Heart"),
    "vessels": ("59820001", "Blood vessel"),
    "airway": ("89187006", "Airway"),
    "mediastinum": ("72410000", "Mediastinum"),
    "bone": ("272673000", "Bone"),
    "liver": ("10200004", "Liver"),
    "spleen": ("78961009", "Spleen"),
    "stomach": ("69695003", "Stomach"),
    "abdomen": ("818981001", "Abdomen"),
}
_FINDING_CODES = {
    "cardiomegaly": ("8186001", "Cardiomegaly"),
    "pleural_effusion": ("60046008", "Pleural effusion"),
    "pneumothorax": ("36118008", "Pneumothorax"),
    "consolidation": ("95436008", "Lung consolidation"),
    "lung_lesion": ("52988006", "Lesion"),
    "edema": ("19242006", "Pulmonary edema"),
    "atelectasis": ("46621007", "Atelectasis"),
}


def _segments(codes: Mapping[str, tuple[str, str]], category: Code | None) -> tuple[Segment, ...]:
    kinds = {name: Code(value=value, meaning=meaning) for name, (value, meaning) in codes.items()}
    if category is None:
        return tuple(Segment(name=name, kind=kind) for name, kind in kinds.items())
    return tuple(Segment(name=name, kind=kind, category=category) for name, kind in kinds.items())


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
    # Stored numbers are kept: they are the labels.
    picture = ImageReaderConfig(modality=modality, orientation="PL", units="label") if dims == 2 else None
    nifti = NiftiReaderConfig(modality=modality, units="label", dims=dims)
    return Parts(
        data=preprocess.spec,
        reader=MaskReaderConfig(scan=ScanReaderConfig(nifti=nifti, image=picture)),
        preprocess=preprocess,
        augment=LabelViewsConfig(),
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


ORGANS = _modality("mask_organs", "Map of organs", _segments(_ORGAN_CODES, None), 601)
FINDINGS = _modality("mask_findings", "Map of findings", _segments(_FINDING_CODES, _ABNORMAL), 602)
