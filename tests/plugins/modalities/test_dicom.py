"""What a built-in modality writes as DICOM, its own reader reads: numbers, place, and that they are synthetic."""

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

TOLD = Provenance(model="m", recipe="r", seed=1, index=2, versions={"weights": "sha256:0"})
ALL = [(CT, "tiny"), (CT, "tiny3d"), *((one, "tiny") for one in MODALITIES), (MODALITIES[0], "tiny3d")]
ALL += [(FRONTAL, "tiny"), (LATERAL, "tiny"), (TEXT, "tiny")]
IMAGES = [case for case in ALL if case[0] is not TEXT]


def named(value):
    return getattr(value, "name", value)


def written(modality, preset, folder, sample=None, told=TOLD):
    """The path of a sample, and the sample."""
    parts = modality.parts(preset)
    sample = sample or draw_sample(modality.name, parts.data, 0)
    writer = parts.exports["dicom"].build()
    path = folder / f"{modality.name}{writer.suffix}"
    writer.write(sample, path, told)
    return path, sample, writer


def oblique(geometry):
    c, s = np.cos(np.radians(7)), np.sin(np.radians(7))
    turn = np.array([[c, -s, 0, 11.5], [s, c, 0, -23.25], [0, 0, 1, 47.0], [0, 0, 0, 1]])
    return Geometry(affine=turn @ geometry.affine, shape=geometry.shape, source_header=geometry.source_header)


@pytest.mark.parametrize(("modality", "preset"), ALL, ids=named)
def test_the_modality_reads_what_it_wrote(tmp_path, modality, preset):
    path, sample, writer = written(modality, preset, tmp_path)
    found = modality.parts(preset).reader.build().read(path)
    assert found.modality == modality.name
    assert found.meta["synthetic"] is True
    assert Provenance(**found.meta["provenance"]) == TOLD
    if isinstance(sample.data, str):
        assert found.data == sample.data
        return
    assert np.abs(found.data - sample.data).max() <= writer.tolerance * 1.001
    assert np.array_equal(found.geometry.affine, sample.geometry.affine)
    assert found.geometry.shape == sample.geometry.shape


@pytest.mark.parametrize(("modality", "preset"), IMAGES, ids=named)
def test_an_oblique_image_keeps_its_place(tmp_path, modality, preset):
    straight = draw_sample(modality.name, modality.parts(preset).data, 0)
    path, sample, _ = written(modality, preset, tmp_path, replace(straight, geometry=oblique(straight.geometry)))
    found = modality.parts(preset).reader.build().read(path)
    assert np.array_equal(found.geometry.affine, sample.geometry.affine)


@pytest.mark.parametrize(
    ("modality", "preset"), [case for case in IMAGES if case[0] not in (FRONTAL, LATERAL)], ids=named
)
def test_slices_stand_in_the_patient_without_our_mark(tmp_path, modality, preset):
    """Another archive may drop private elements: values and places are the standard's own."""
    straight = draw_sample(modality.name, modality.parts(preset).data, 0)
    path, sample, writer = written(modality, preset, tmp_path, replace(straight, geometry=oblique(straight.geometry)))
    for one in path.iterdir() if path.is_dir() else [path]:
        dataset = pydicom.dcmread(one)
        dataset.remove_private_tags()
        dataset.save_as(one)
    found = modality.parts(preset).reader.build().read(path)
    assert np.abs(found.data - sample.data).max() <= writer.tolerance * 1.001
    # Which way the normal of a single slice points is nobody's business.
    axes = [*range(len(sample.geometry.shape)), 3]
    assert np.abs((found.geometry.affine - sample.geometry.affine)[:, axes]).max() < 1e-6


def test_one_view_is_not_taken_for_the_other(tmp_path):
    path, *_ = written(LATERAL, "tiny", tmp_path)
    with pytest.raises(UserError, match=r"xray_lateral\.dcm"):
        FRONTAL.parts("tiny").reader.build().read(path)


def test_joint_outputs_are_one_study(tmp_path):
    paths = [written(modality, "tiny", tmp_path)[0] for modality in (FRONTAL, LATERAL, CT, MODALITIES[0], TEXT)]
    found = [pydicom.dcmread(path) for path in paths]
    for key in ("StudyInstanceUID", "PatientID", "StudyDate", "StudyTime", "StudyID"):
        assert len({str(one[key].value) for one in found}) == 1
    assert len({one.SeriesInstanceUID for one in found}) == len({one.SeriesNumber for one in found}) == len(found)
    assert len({one.FrameOfReferenceUID for one in found if "FrameOfReferenceUID" in one}) == 1
    assert {one.Modality for one in found} == {"DX", "CT", "MR", "SR"}


def test_no_two_modalities_share_a_series_number():
    numbers = [one.parts("tiny").exports["dicom"].series_number for one in (FRONTAL, LATERAL, CT, TEXT, *MODALITIES)]
    assert len(set(numbers)) == len(numbers)


def test_a_manifest_of_series_is_read_back(tmp_path):
    """As `core.generate` writes it: folders and files of one study."""
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
        found = modality.parts(preset).reader.build().read(path)
        assert json.loads(json.dumps(found.meta["provenance"]))["seed"] == 1
