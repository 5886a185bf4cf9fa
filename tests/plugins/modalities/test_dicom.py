"""What a built-in modality writes as DICOM, its reader reads: numbers, position, and that they are synthetic."""

import csv
import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from core.errors import UserError
from core.testing.samples import draw_sample
from core.types import Geometry, Provenance
from plugins.ct.modality import CT
from plugins.manifest.datasets import MANIFEST
from plugins.mri.modality import MODALITIES
from plugins.text.modality import TEXT
from plugins.xray.modality import FRONTAL, LATERAL

PROVENANCE = Provenance(model="m", recipe="r", seed=1, index=2, versions={"weights": "sha256:0"})
ALL = [(CT, "tiny"), (CT, "tiny3d"), *((modality, "tiny") for modality in MODALITIES), (MODALITIES[0], "tiny3d")]
ALL += [(FRONTAL, "tiny"), (LATERAL, "tiny"), (TEXT, "tiny")]
IMAGES = [case for case in ALL if case[0] is not TEXT]


def named(value):
    return getattr(value, "name", value)


def written(modality, preset, folder, sample=None, provenance=PROVENANCE):
    """The path of a sample, and the sample."""
    parts = modality.parts(preset)
    sample = sample or draw_sample(modality.name, parts.data, 0)
    writer = parts.exports["dicom"].build()
    path = folder / f"{modality.name}{writer.suffix}"
    writer.write(sample, path, provenance)
    return path, sample, writer


def oblique(geometry):
    c, s = np.cos(np.radians(7)), np.sin(np.radians(7))
    turn = np.array([[c, -s, 0, 11.5], [s, c, 0, -23.25], [0, 0, 1, 47.0], [0, 0, 0, 1]])
    return Geometry(affine=turn @ geometry.affine, shape=geometry.shape, source_header=geometry.source_header)


@pytest.mark.parametrize(("modality", "preset"), ALL, ids=named)
def test_the_modality_reads_what_it_wrote(tmp_path, modality, preset):
    path, sample, writer = written(modality, preset, tmp_path)
    restored = modality.parts(preset).reader.build().read(path)
    assert restored.modality == modality.name
    assert restored.meta["synthetic"] is True
    assert Provenance(**restored.meta["provenance"]) == PROVENANCE
    if isinstance(sample.data, str):
        assert restored.data == sample.data
        return
    assert np.abs(restored.data - sample.data).max() <= writer.tolerance * 1.001
    assert np.array_equal(restored.geometry.affine, sample.geometry.affine)
    assert restored.geometry.shape == sample.geometry.shape


@pytest.mark.parametrize(("modality", "preset"), IMAGES, ids=named)
def test_an_oblique_image_keeps_its_position(tmp_path, modality, preset):
    straight = draw_sample(modality.name, modality.parts(preset).data, 0)
    path, sample, _ = written(modality, preset, tmp_path, replace(straight, geometry=oblique(straight.geometry)))
    restored = modality.parts(preset).reader.build().read(path)
    assert np.array_equal(restored.geometry.affine, sample.geometry.affine)


@pytest.mark.parametrize(
    ("modality", "preset"), [case for case in IMAGES if case[0] not in (FRONTAL, LATERAL)], ids=named
)
def test_slices_stand_in_the_patient_without_our_mark(tmp_path, modality, preset):
    """Another archive may drop private elements: values and positions are standard elements."""
    straight = draw_sample(modality.name, modality.parts(preset).data, 0)
    path, sample, writer = written(modality, preset, tmp_path, replace(straight, geometry=oblique(straight.geometry)))
    for file in path.iterdir() if path.is_dir() else [path]:
        dataset = pydicom.dcmread(file)
        dataset.remove_private_tags()
        dataset.save_as(file)
    restored = modality.parts(preset).reader.build().read(path)
    assert np.abs(restored.data - sample.data).max() <= writer.tolerance * 1.001
    # Which way the normal of a single slice points is nobody's business.
    axes = [*range(len(sample.geometry.shape)), 3]
    assert np.abs((restored.geometry.affine - sample.geometry.affine)[:, axes]).max() < 1e-6


def test_one_view_is_not_taken_for_the_other(tmp_path):
    path, *_ = written(LATERAL, "tiny", tmp_path)
    with pytest.raises(UserError, match=r"xray_lateral\.dcm"):
        FRONTAL.parts("tiny").reader.build().read(path)


def test_joint_outputs_are_one_study(tmp_path):
    paths = [written(modality, "tiny", tmp_path)[0] for modality in (FRONTAL, LATERAL, CT, MODALITIES[0], TEXT)]
    headers = [pydicom.dcmread(path) for path in paths]
    for key in ("StudyInstanceUID", "PatientID", "StudyDate", "StudyTime", "StudyID"):
        assert len({str(header[key].value) for header in headers}) == 1
    assert (
        len({header.SeriesInstanceUID for header in headers})
        == len({header.SeriesNumber for header in headers})
        == len(headers)
    )
    assert len({header.FrameOfReferenceUID for header in headers if "FrameOfReferenceUID" in header}) == 1
    assert {header.Modality for header in headers} == {"DX", "CT", "MR", "SR"}


def test_no_two_modalities_share_a_series_number():
    numbers = [
        modality.parts("tiny").exports["dicom"].series_number for modality in (FRONTAL, LATERAL, CT, TEXT, *MODALITIES)
    ]
    assert len(set(numbers)) == len(numbers)


def test_a_manifest_of_series_is_read_back(tmp_path):
    """As `core.generate` writes it: folders and files of a study."""
    study = tmp_path / "0000"
    study.mkdir()
    cases = [(CT, "tiny3d"), (MODALITIES[0], "tiny3d"), (FRONTAL, "tiny3d"), (TEXT, "tiny3d")]
    paths = {modality.name: written(modality, preset, study)[0] for modality, preset in cases}
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["study_id", "modality", "file"])
        table.writerows(["0000", name, f"0000/{path.name}"] for name, path in paths.items())
    (record,) = MANIFEST.scan(tmp_path)
    for modality, preset in cases:
        (path,) = record.files[modality.name]
        restored = modality.parts(preset).reader.build().read(path)
        assert json.loads(json.dumps(restored.meta["provenance"]))["seed"] == 1
