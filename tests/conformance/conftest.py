"""A study of every kind of object, written once by the plugins' own exports."""

import shutil

import numpy as np
import pytest

from core.io import Code, DicomSegWriterConfig, Segment
from core.testing.samples import draw_sample
from core.types import Provenance, Sample
from plugins.ct.modality import CT
from plugins.mri.modality import MODALITIES
from plugins.text.modality import TEXT
from plugins.xray.modality import FRONTAL, LATERAL

INSTALL = "apt-get install -y dicom3tools dcmtk orthanc nifti-bin"
PRESETS = {"slice": "tiny", "volume": "tiny3d"}
REPORT = "Findings: Small left pleural effusion. Impression: Effusion."
ORGANS = ("Lung", "39607008"), ("Heart", "80891009")


@pytest.fixture(scope="session")
def program():
    """``program("dciodvfy")``: its path, or a skip that says how to install it."""

    def find(name):
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found is None:
            pytest.skip(f"{name} is not installed ({INSTALL})")
        return found

    return find


@pytest.fixture(scope="session")
def provenance():
    return Provenance(
        model="medm2g-tiny",
        recipe="medm2g",
        seed=3,
        index=1,
        prompts={"text": "Kleiner Pleuraerguss, 胸部"},
        versions={"medweave": "0.1.0"},
    )


@pytest.fixture(scope="session")
def study(tmp_path_factory, provenance):
    """The folder of a study: slices, volumes, views, report and masks."""
    folder = tmp_path_factory.mktemp("study")
    for kind, preset in PRESETS.items():
        for modality in (CT, MODALITIES[0]):
            _write(modality, preset, folder / kind, provenance)
    for modality in (FRONTAL, LATERAL, TEXT):
        _write(modality, "tiny", folder / "slice", provenance)
    for kind, dims in (("slice", 2), ("volume", 3)):
        _write_mask(folder / kind, dims, provenance)
    return folder


def _write(modality, preset, folder, provenance):
    folder.mkdir(exist_ok=True)
    parts = modality.parts(preset)
    sample = draw_sample(modality.name, parts.data, 0)
    if isinstance(sample.data, str):
        sample = Sample(modality=modality.name, data=REPORT)
    writer = parts.exports["dicom"].build()
    writer.write(sample, folder / f"{modality.name}{writer.suffix}", provenance)


def _write_mask(folder, dims, provenance):
    parts = CT.parts(PRESETS["slice" if dims == 2 else "volume"])
    labels = np.zeros((1, *parts.data.space), "f4")
    labels[..., 10:20, 10:30], labels[..., 30:40, 30:40] = 1, 2
    segments = tuple(Segment(name=name.lower(), kind=Code(value=code, meaning=name)) for name, code in ORGANS)
    sample = Sample(modality="organs", data=labels, geometry=parts.data.default_geometry)
    config = DicomSegWriterConfig(segments=segments, dims=dims, source=CT.name)
    config.build().write(sample, folder / "organs.dcm", provenance)
