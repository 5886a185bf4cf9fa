"""The cohort as DICOM: what was computed is what readers find, where it lies, and whole folders only."""

import csv
import hashlib
import json

import highdicom
import numpy as np
import pydicom
import pytest
from scipy.ndimage import map_coordinates

from core.errors import UserError
from core.io import SliceAt
from core.types import Geometry, Sample
from plugins.ct.modality import CT
from plugins.manifest.datasets import MANIFEST
from plugins.mask.modality import FINDINGS, ORGANS
from plugins.mri.modality import MODALITIES
from plugins.phantom import dicom
from plugins.phantom.cohort import make_cohort
from plugins.phantom.datasets import PHANTOM
from plugins.phantom.dicom import write_dicom
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.study import make_study
from plugins.text.modality import TEXT
from plugins.xray.modality import FRONTAL, LATERAL

SEED, PATIENT = 5, 0
MRI = {modality.name: modality for modality in MODALITIES if modality.name in ("mri_t1", "mri_t2", "mri_pd")}


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """A body of 8 mm voxels has half as many slices and is computed in an eighth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plugins.phantom.study.Grid", lambda: Grid((54, 36, 52), 8.0))
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory, coarse):
    folder = tmp_path_factory.mktemp("dicom") / "out"
    write_dicom(folder.parent / "cohort", folder, 1, workers=1, progress=False, seed=SEED)
    return folder


@pytest.fixture(scope="module")
def home(out):
    return out / "patients" / "0000"


@pytest.fixture(scope="module")
def study(coarse):
    return make_study(SEED, PATIENT)


@pytest.fixture(scope="module")
def headers(home):
    return {str(path.relative_to(home)): pydicom.dcmread(path) for path in sorted(home.rglob("*.dcm"))}


def reader(modality, preset="tiny3d"):
    return modality.parts(preset).reader.build()


def slice_at(modality, z_mm):
    """The modality's reader of slices, for the slice at a height."""
    config = modality.parts("tiny").reader
    series = config.series.model_copy(update={"volume": SliceAt(superior_mm=z_mm)})
    return config.model_copy(update={"series": series}).build()


def test_the_ct_holds_the_cohorts_slice_to_the_unit(home, study):
    expected = study.samples["ct"]
    sample = slice_at(CT, study.parameters["slice"]["z_mm"]).read(home / "ct")
    assert np.array_equal(sample.data, expected.data)
    assert np.abs(sample.geometry.affine - expected.geometry.affine).max() < 0.01
    assert sample.meta["units"] == "HU"


@pytest.mark.parametrize("name", MRI)
def test_so_does_every_contrast(home, study, name):
    expected = study.samples[name]
    sample = slice_at(MRI[name], study.parameters["slice"]["z_mm"]).read(home / name)
    assert np.abs(sample.data - expected.data).max() <= 0.5
    assert np.abs(sample.geometry.affine - expected.geometry.affine).max() < 0.01


def test_the_volume_is_the_body_where_it_stands(headers, study):
    """By PS3.3's own formula, without our readers: every voxel near the tissue that is computed there."""
    body, mirrored = study.body, {axes: [] for axes in ((), (0,), (1,), (2,))}
    for name, header in headers.items():
        if not name.startswith("ct/"):
            continue
        assert (header.RescaleSlope, header.RescaleIntercept) == (1, 0)
        row, column = np.meshgrid(np.arange(0, header.Rows, 5), np.arange(0, header.Columns, 5), indexing="ij")
        along, down = np.split(np.float64(header.ImageOrientationPatient), 2)
        between_rows, between_columns = map(float, header.PixelSpacing)
        lps = np.float64(header.ImagePositionPatient) + (
            down * between_rows * row[..., None] + along * between_columns * column[..., None]
        )
        coordinates = [(-lps[..., 0], 0), (-lps[..., 1], 1), (lps[..., 2], 2)]
        spacing, shape = body.grid.spacing_mm, body.grid.shape
        at = np.stack([mm / spacing + (shape[axis] - 1) / 2 for mm, axis in coordinates])
        for axes, differences in mirrored.items():
            there = map_coordinates(np.flip(body.volume_hu, axes), at, order=1, cval=-1000.0)
            differences.append(np.abs(header.pixel_array[row, column] - there))
    errors = {axes: float(np.concatenate(differences).mean()) for axes, differences in mirrored.items()}
    # Noise, texture, and what a voxel mixes. Left and right differ least.
    assert errors[()] < 20
    assert errors[0,] > 2 * errors[()]
    assert min(errors[1,], errors[2,]) > 8 * errors[()]


def test_series_cover_the_body_evenly(headers, study):
    grid = study.body.grid
    for name in ("ct", *MRI):
        slices = [header for path, header in headers.items() if path.startswith(f"{name}/")]
        heights = [float(header.ImagePositionPatient[2]) for header in slices]
        assert heights == pytest.approx(grid.axis(2).tolist())
        assert {float(header.SliceThickness) for header in slices} == {grid.spacing_mm}
        assert {tuple(map(float, header.PixelSpacing)) for header in slices} == {(6.25, 6.25)}
        assert {header.Modality for header in slices} == {"CT" if name == "ct" else "MR"}


def test_neighbouring_slices_resemble_each_other(headers):
    """Texture and bias fields go on from slice to slice; noise does not."""
    for name in ("ct", "mri_t2"):
        slices = [header.pixel_array for path, header in headers.items() if path.startswith(f"{name}/")]
        steps = np.abs(np.diff(np.float64(slices[10:40]), axis=0)).mean((1, 2))
        assert steps.max() < 2.5 * np.median(steps), name


@pytest.mark.parametrize(("modality", "other", "orientation"), [(FRONTAL, LATERAL, "IL"), (LATERAL, FRONTAL, "IP")])
def test_the_header_tells_the_view(home, study, modality, other, orientation):
    expected, path = study.samples[modality.name], home / f"{modality.name}.dcm"
    sample = reader(modality).read(path)
    assert np.abs(sample.data - expected.data).max() <= 1 / 65535
    assert sample.geometry.spacing_mm == pytest.approx(expected.geometry.spacing_mm, abs=0.01)
    assert sample.geometry.orientation == orientation
    with pytest.raises(UserError, match="ViewPosition says"):
        reader(other).read(path)


def test_the_report_as_document_and_as_text(home, study):
    for path in (home / "text.dcm", home / "report.txt"):
        assert reader(TEXT).read(path).data == study.samples["text"].data


@pytest.mark.parametrize(("modality", "name"), [(ORGANS, "organs"), (FINDINGS, "findings")])
def test_segmentations_are_those_of_the_cohort(home, study, modality, name):
    """highdicom and our own reader find the same map; the cohort's slice is in it."""
    path = home / f"{modality.name}.dcm"
    ours = reader(modality).read(path)
    level = study.parameters["slice"]["level"]
    assert np.array_equal(ours.data[0, level], study.masks[name].data[0])
    ct = reader(CT).read(home / "ct")
    assert np.array_equal(ours.geometry.affine, ct.geometry.affine)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True, skip_overlap_checks=True)
    whole = np.zeros(ours.data.shape[1:])
    for number in range(volume.shape[0]):
        index = np.linalg.inv(ours.geometry.affine) @ volume.get_affine("RAS") @ [number, 0, 0, 1]
        whole[round(float(index[0]))] = volume.array[number]
    assert np.array_equal(whole, ours.data[0])
    # Lungs are air, whichever slice.
    if name == "organs":
        assert np.median(ct.data[ours.data == 2]) < -700


@pytest.mark.parametrize("name", ["ct", "mri_t2"])
def test_another_program_finds_the_same_volume(home, name):
    """SimpleITK, which reads by GDCM: every number, and where it lies in (L, P, S)."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(home / name)))
    ours = reader(CT if name == "ct" else MRI[name]).read(home / name)
    assert np.array_equal(sitk.GetArrayFromImage(image), ours.data[0])
    for index in ((0, 0, 0), (3, 10, 20), (40, 63, 5)):
        ras = ours.geometry.affine @ [*index, 1]
        assert image.TransformIndexToPhysicalPoint(index[::-1]) == pytest.approx((-ras[0], -ras[1], ras[2]), abs=0.01)


def test_everything_is_one_study_in_one_frame_of_reference(headers):
    for key in ("StudyInstanceUID", "PatientID", "StudyDate", "StudyTime"):
        assert len({str(header[key].value) for header in headers.values()}) == 1
    spatial = {name: header for name, header in headers.items() if "FrameOfReferenceUID" in header}
    assert {header.Modality for header in spatial.values()} == {"CT", "MR", "SEG"}
    assert len({header.FrameOfReferenceUID for header in spatial.values()}) == 1
    assert len({header.SOPInstanceUID for header in headers.values()}) == len(headers)
    assert len({header.SeriesInstanceUID for header in headers.values()}) == 9
    slices = {header.SOPInstanceUID for name, header in headers.items() if name.startswith("ct/")}
    referred = {e.value for e in headers["mask_organs.dcm"].iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    assert referred
    assert referred <= slices


def test_every_file_says_that_nobody_was_scanned(headers, home):
    for header in headers.values():
        assert header[0x0008, 0x001C].value == "YES"
        assert header.PatientName == "SYNTHETIC^MEDWEAVE"
    sidecar = json.loads((home / "ct.json").read_text())
    assert sidecar["synthetic"] is True
    assert sidecar["provenance"]["model"].startswith("phantom ")
    assert (home / "report.txt").read_text().splitlines()[-1].startswith("SYNTHETIC")


def test_the_table_is_one_of_the_adapter_manifest(out, study):
    (record,) = MANIFEST.scan(out)
    assert set(record.files) == set(PHANTOM.modalities)
    assert record.files["mri"] == record.files["mri_t2"]
    assert all(path.exists() for paths in record.files.values() for path in paths)
    assert record.patient == "phantom-0000"
    assert record.labels == {name: 1 for name, there in study.labels.items() if there}


# Below, whole bodies are left out: what is tested is who writes which folder when.


def thin(study, seed, patient):
    """Two slices of each volume."""
    flat = study.samples["ct"].geometry.affine[:, [2, 0, 1, 3]]
    geometry = Geometry(affine=flat, shape=(2, 64, 64))
    images = {name: study.samples[name].data for name in ("ct", *MRI)}
    masks = {f"mask_{name}": sample.data for name, sample in study.masks.items()}
    return {
        name: Sample(modality=name, data=np.repeat(data[:, None], 2, axis=1), geometry=geometry)
        for name, data in {**images, **masks}.items()
    }


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(dicom, "volumes_of", thin)

    def write(out, patients, seed=SEED, root=None):
        write_dicom(root or out.parent / "none", out, patients, workers=1, progress=False, seed=seed)
        return out

    return write


def digest(out):
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_an_interrupted_process_resumes_and_ends_with_the_same_bytes(quick, tmp_path, monkeypatch):
    expected = digest(quick(tmp_path / "whole", 2))
    out = quick(tmp_path / "out", 1)
    first = {path: path.stat().st_mtime_ns for path in (out / "patients/0000").rglob("*")}

    def breaks(*_):
        raise RuntimeError("power cut")

    monkeypatch.setattr(dicom, "write_parameters", breaks)
    with pytest.raises(RuntimeError, match="power cut"):
        quick(out, 2)
    assert sorted(path.name for path in (out / "patients").iterdir()) == ["0000"]
    (out / "patients/.part-killed/ct").mkdir(parents=True)
    monkeypatch.undo()
    monkeypatch.setattr(dicom, "volumes_of", thin)
    quick(out, 2)
    assert digest(out) == expected
    assert first == {path: path.stat().st_mtime_ns for path in (out / "patients/0000").rglob("*")}
    quick(out, 1)  # fewer are requested: nothing is lost
    with (out / "manifest.csv").open(newline="") as file:
        assert {row["study_id"] for row in csv.DictReader(file)} == {"phantom-0000", "phantom-0001"}


def test_another_cohort_or_folder_is_refused(quick, tmp_path):
    out = quick(tmp_path / "out", 1)
    with pytest.raises(UserError, match=r"holds a cohort with seed 5 \(requested: 4\)"):
        quick(out, 1, seed=4)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.doc").write_text("x")
    with pytest.raises(UserError, match="in use for something else"):
        quick(tmp_path / "thesis", 1)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.doc"]


def test_the_seed_and_the_number_are_those_of_the_cohort(quick, tmp_path):
    make_cohort(tmp_path / "cohort", num=1, seed=3, workers=1, progress=False)
    out = quick(tmp_path / "out", 1, seed=None, root=tmp_path / "cohort")
    assert json.loads((out / "dicom.json").read_text())["seed"] == 3
    with pytest.raises(UserError, match="has 1 patients, 2 were requested"):
        quick(out, 2, seed=None, root=tmp_path / "cohort")
    with pytest.raises(UserError, match=r"holds a cohort with seed 3 \(requested: 4\)"):
        quick(out, 1, seed=4, root=tmp_path / "cohort")


def test_a_collected_data_set_is_not_written(tmp_path):
    with pytest.raises(UserError, match="'manifest' cannot be written as DICOM"):
        MANIFEST.write_dicom(tmp_path, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()
