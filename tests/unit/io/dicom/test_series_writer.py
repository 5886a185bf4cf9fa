"""CT and MR series as a reader with nothing but the standard sees them: pydicom, and PS3.3's own equation."""

import errno
import json
import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from core.errors import UserError
from core.io import DicomSeriesWriterConfig, Window
from core.io.dicom.mark import read_mark
from core.io.files import atomic_write
from core.io.geometry import centred
from core.types import Geometry, Provenance, Sample

CT = DicomSeriesWriterConfig(kind="CT", dims=3, units="HU", windows=(Window(centre=40, width=400, name="soft"),))
MR = DicomSeriesWriterConfig(kind="MR", dims=3)
SLICE = DicomSeriesWriterConfig(kind="CT", dims=2, units="HU")
SHAPE = (3, 5, 4)


def turned(geometry, degrees=(7, 21, -33), shift=(11.5, -23.25, 47.0)):
    """Turned about all three axes and moved."""
    turn = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [one for one in range(3) if one != axis]
        step = np.eye(4)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    turn[:3, 3] = shift
    return Geometry(affine=turn @ geometry.affine, shape=geometry.shape, source_header=geometry.source_header)


def volume(seed=0, low=-1000, high=1000, geometry=None):
    data = np.random.default_rng(seed).uniform(low, high, (1, *SHAPE)).astype("f4")
    return Sample(modality="scan", data=data, geometry=geometry or centred(SHAPE, (5.0, 0.7, 0.9), "SPL"))


def read(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def units(dataset):
    return dataset.pixel_array * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))


def place(dataset, row, column):
    """PS3.3 C.7.6.2.1.1, and from (L, P, S) to (R, A, S)."""
    along, down = np.float64(dataset.ImageOrientationPatient).reshape(2, 3)
    between_rows, between_columns = map(float, dataset.PixelSpacing)
    where = np.float64(dataset.ImagePositionPatient) + along * between_columns * column + down * between_rows * row
    return where * [-1, -1, 1]


@pytest.mark.parametrize(
    "geometry", [None, turned(centred(SHAPE, (5.0, 0.7, 0.9), "SPL"))], ids=["straight", "oblique"]
)
@pytest.mark.parametrize(("config", "low"), [(CT, -1000), (MR, 0)], ids=["ct", "mr"])
def test_values_and_places_come_back(folder, provenance, config, low, geometry):
    sample = volume(low=low, geometry=geometry)
    config.build().write(sample, folder / "scan", provenance)
    slices = read(folder / "scan")
    assert [int(one.InstanceNumber) for one in slices] == [1, 2, 3]
    for index, one in enumerate(slices):
        assert np.abs(units(one) - sample.data[0, index]).max() <= 0.5 + 1e-4
        for row, column in ((0, 0), (0, 3), (4, 0), (4, 3)):
            expected = (sample.geometry.affine @ [index, row, column, 1])[:3]
            assert np.abs(place(one, row, column) - expected).max() < 1e-6
        assert float(one.SliceThickness) == pytest.approx(5.0)
        along, down = np.float64(one.ImageOrientationPatient).reshape(2, 3)
        assert abs(along @ down) < 1e-9
        assert np.linalg.norm(along) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    "geometry", [None, turned(centred(SHAPE, (5.0, 0.7, 0.9), "SPL"))], ids=["straight", "oblique"]
)
def test_another_library_puts_the_volume_together(folder, provenance, geometry):
    """highdicom, which knows nothing of us, stacks the series: values and affine."""
    sample = volume(geometry=geometry)
    CT.build().write(sample, folder / "scan", provenance)
    found = highdicom.get_volume_from_series(read(folder / "scan")[::-1])
    affine, values = found.get_affine("RAS"), found.array
    if affine[:3, 0] @ sample.geometry.affine[:3, 0] < 0:
        affine, values = affine @ [[-1, 0, 0, len(values) - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], values[::-1]
    assert np.abs(affine - sample.geometry.affine).max() < 1e-6
    assert np.abs(values - sample.data[0]).max() <= 0.5 + 1e-4


def test_a_slice_is_one_file(folder, provenance):
    data = volume().data[:, 0]
    geometry = turned(centred(SHAPE[1:], (0.7, 0.9), "PL"))
    SLICE.build().write(Sample(modality="scan", data=data, geometry=geometry), folder / "scan.dcm", provenance)
    found = pydicom.dcmread(folder / "scan.dcm")
    assert sorted(one.name for one in folder.iterdir()) == ["scan.dcm", "scan.dcm.json"]
    assert np.abs(units(found) - data[0]).max() <= 0.5 + 1e-4
    assert np.abs(place(found, 4, 3) - (geometry.affine @ [4, 3, 0, 1])[:3]).max() < 1e-6


def test_a_sheared_stack_keeps_its_positions(folder, provenance):
    """A gantry tilt: slices shift sideways from one to the next."""
    affine = centred(SHAPE, (5.0, 0.7, 0.9), "SPL").affine.copy()
    affine[:3, 0] = [0, 2.0, 5.0]
    sample = volume(geometry=Geometry(affine=affine, shape=SHAPE))
    CT.build().write(sample, folder / "scan", provenance)
    slices = read(folder / "scan")
    assert np.abs(place(slices[2], 1, 1) - (affine @ [2, 1, 1, 1])[:3]).max() < 1e-6
    assert float(slices[0].SliceThickness) == pytest.approx(5.0)


def test_half_units_at_the_edge_of_16_bits(folder, provenance):
    data = np.array([[-32768, 32767], [0, 0.49]], "f4")[None]
    sample = Sample(modality="scan", data=data, geometry=centred((2, 2), (1, 1), "PL"))
    SLICE.build().write(sample, folder / "scan.dcm", provenance)
    assert units(pydicom.dcmread(folder / "scan.dcm")).tolist() == [[-32768, 32767], [0, 0]]


def test_a_finer_step_is_written_as_rescale(folder, provenance):
    sample = volume(low=0, high=100)
    MR.model_copy(update={"step": 0.01}).build().write(sample, folder / "fine", provenance)
    MR.build().write(sample, folder / "plain", provenance)
    assert np.abs(units(read(folder / "fine")[1]) - sample.data[0, 1]).max() <= 0.005 + 1e-5
    assert "RescaleSlope" not in read(folder / "plain")[0]


def test_windows(folder, provenance):
    CT.build().write(volume(), folder / "a", provenance)
    MR.build().write(volume(low=100, high=300), folder / "b", provenance)
    first, second = read(folder / "a")[0], read(folder / "b")[0]
    assert (first.WindowCenter, first.WindowWidth, first.WindowCenterWidthExplanation) == (40, 400, "soft")
    assert float(second.WindowCenter) == pytest.approx(200, abs=20)
    assert float(second.WindowWidth) == pytest.approx(198, abs=20)


def test_every_instance_says_that_it_is_synthetic(folder, provenance):
    CT.build().write(volume(), folder / "scan", provenance)
    for one in read(folder / "scan"):
        assert one[0x0008, 0x001C].value == "YES"
        assert list(one.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert one.PatientName == "SYNTHETIC^MEDWEAVE"
        assert (one.PatientIdentityRemoved, one.BurnedInAnnotation) == ("YES", "NO")
        for part in ("SYNTHETIC", "model toy-1", "seed 7", "index 0"):
            assert part in one.DerivationDescription
        (equipment,) = one.ContributingEquipmentSequence
        assert equipment.Manufacturer == "MedWeave"
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert one.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
        assert len(one.PixelData) % 2 == 0


def test_the_mark_restores_provenance_and_the_exact_affine(folder, provenance):
    sample = volume(geometry=turned(centred(SHAPE, (5.0, 0.7, 0.9), "SPL")))
    CT.build().write(sample, folder / "scan", provenance)
    mark = read_mark(read(folder / "scan")[2], folder)
    assert mark.provenance == provenance
    assert np.array_equal(np.array(mark.affine), sample.geometry.affine)
    beside = json.loads((folder / "scan.json").read_text())
    assert beside["provenance"]["seed"] == 7
    assert read_mark(pydicom.Dataset(), folder) is None


def test_the_same_order_gives_the_same_bytes(folder, provenance, monkeypatch):
    CT.build().write(volume(), folder / "a", provenance)
    monkeypatch.setattr("time.time", lambda: 0.0)
    CT.build().write(volume(), folder / "b", provenance)
    assert [one.read_bytes() for one in sorted((folder / "a").iterdir())] == [
        one.read_bytes() for one in sorted((folder / "b").iterdir())
    ]


def test_what_one_study_shares(folder, provenance):
    other = provenance.model_copy(update={"index": 1})
    CT.build().write(volume(), folder / "ct", provenance)
    MR.build().write(volume(1, low=0), folder / "mr", provenance)
    CT.build().write(volume(), folder / "other", other)
    ct, mr, stranger = (read(folder / name)[0] for name in ("ct", "mr", "other"))
    for key in ("StudyInstanceUID", "PatientID", "StudyDate", "StudyTime", "FrameOfReferenceUID", "StudyID"):
        assert ct[key].value == mr[key].value
    for key in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert ct[key].value != stranger[key].value
    assert ct.SeriesInstanceUID != mr.SeriesInstanceUID
    instances = read(folder / "ct")
    assert len({one.SOPInstanceUID for one in instances}) == 3
    assert len({one.SeriesInstanceUID for one in instances}) == 1


def test_no_identifier_of_a_source_is_copied(folder, provenance):
    stored = {"PatientName": "DOE^JANE", "00100020": "4711-0815", "path": "/home/doe", "window": [40, 400], "slice": 3}
    like = centred(SHAPE, (5.0, 0.7, 0.9), "SPL", **stored)
    sample = Sample(modality="scan", data=volume().data, geometry=like, meta={"path": "/home/doe/x", "patient": "DOE"})
    CT.build().write(sample, folder / "scan", provenance)
    for path in [*(folder / "scan").iterdir(), folder / "scan.json"]:
        content = path.read_bytes()
        assert not any(word in content for word in (b"DOE", b"doe", b"4711"))
    assert read_mark(read(folder / "scan")[0], folder).stored == {"window": [40, 400], "slice": 3}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": np.full((1, *SHAPE), 40_000, "f4")}, "values from 40000 to 40000 leave what is stored"),
        ({"data": np.full((1, *SHAPE), np.nan, "f4")}, "NaN or infinite"),
        ({"data": np.zeros((2, *SHAPE), "f4")}, "2 channels"),
        ({"geometry": None}, "no geometry"),
        ({"data": np.zeros((1, *SHAPE[1:]), "f4"), "geometry": centred(SHAPE[1:], (1, 1), "PL")}, "3 spatial axes"),
        ({"data": "text"}, "is text"),
    ],
)
def test_what_cannot_be_written_is_refused(folder, provenance, change, expected):
    sample = Sample(**{"modality": "scan", "data": volume().data, "geometry": volume().geometry, **change})
    with pytest.raises(UserError, match=expected) as error:
        CT.build().write(sample, folder / "scan", provenance)
    assert str(folder / "scan") in str(error.value)
    assert list(folder.iterdir()) == []


def test_slanted_rows_are_refused(folder, provenance):
    affine = centred(SHAPE, (5.0, 0.7, 0.9), "SPL").affine.copy()
    affine[:3, 2] += affine[:3, 1] * 0.1
    with pytest.raises(UserError, match="right angles"):
        CT.build().write(volume(geometry=Geometry(affine=affine, shape=SHAPE)), folder / "scan", provenance)


def test_nothing_is_overwritten_unless_told(folder, provenance):
    writer = CT.build()
    writer.write(volume(), folder / "scan", provenance)
    before = (folder / "scan/0001.dcm").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        writer.write(volume(1), folder / "scan", provenance)
    assert (folder / "scan/0001.dcm").read_bytes() == before
    writer.write(volume(1), folder / "scan", provenance, overwrite=True)
    assert (folder / "scan/0001.dcm").read_bytes() != before
    assert sorted(one.name for one in folder.iterdir()) == ["scan", "scan.json"]


def test_of_writers_at_once_one_succeeds(folder, provenance):
    def write(seed):
        try:
            CT.build().write(volume(seed), folder / "scan", provenance)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(write, range(8)))
    assert sorted(said)[0] == ""
    assert all("exist" in one for one in sorted(said)[1:]), said
    assert sorted(one.name for one in folder.iterdir()) == ["scan", "scan.json"]
    assert len({one.SeriesInstanceUID for one in read(folder / "scan")}) == 1


def test_a_place_without_a_name_is_refused(folder, provenance):
    for path in (folder.root, folder / ".."):
        with pytest.raises(UserError, match="no name to write to"):
            CT.build().write(volume(), Path(path), provenance)


def test_overwriting_spares_what_is_no_series(folder, provenance):
    (folder / "scan").mkdir()
    (folder / "scan/thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        CT.build().write(volume(), folder / "scan", provenance, overwrite=True)
    assert (folder / "scan/thesis.tex").read_text() == "years of work"
    (folder / "file").write_text("not a folder")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        CT.build().write(volume(), folder / "file", provenance, overwrite=True)


def test_names_have_the_suffix_of_the_writer(folder, provenance):
    with pytest.raises(UserError, match="name has no suffix"):
        CT.build().write(volume(), folder / "scan.dcm", provenance)
    with pytest.raises(UserError, match="exist"):
        CT.build().write(volume(), folder / "missing/scan", provenance)


@pytest.mark.parametrize("config", [CT, SLICE], ids=["folder", "file"])
def test_a_full_disk_leaves_nothing(folder, provenance, monkeypatch, config):
    written = []

    def fill(path, dataset, **options):
        written.append(path)
        if len(written) < config.dims - 1:
            return pydicom.filewriter.dcmwrite(path, dataset, **options)
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pydicom, "dcmwrite", fill)
    writer = config.build()
    data, geometry = volume().data, volume().geometry
    if config.dims == 2:
        data, geometry = data[:, 0], centred(SHAPE[1:], (1, 1), "PL")
    with pytest.raises(UserError, match="No space left"):
        writer.write(Sample(modality="scan", data=data, geometry=geometry), folder / f"scan{writer.suffix}", provenance)
    assert len(written) == config.dims - 1
    assert list(folder.iterdir()) == []


def test_a_read_only_folder_is_refused(folder, provenance, read_only):
    CT.build().write(volume(), folder / "scan", provenance)  # nobody may not import what is the superuser's
    with read_only() as closed, pytest.raises(UserError, match=rf"{closed}.*Permission denied"):
        CT.build().write(volume(), closed / "scan", provenance)


def test_a_folder_that_cannot_be_made_is_one_line(folder, provenance, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(UserError, match="Read-only file system"):
        CT.build().write(volume(), folder / "scan", provenance)
    assert list(folder.iterdir()) == []


def test_a_series_that_cannot_take_its_place_leaves_the_old_one(folder, provenance, monkeypatch):
    CT.build().write(volume(), folder / "scan", provenance)
    before = (folder / "scan/0001.dcm").read_bytes()
    rename = type(folder).rename

    def fail(self, target):
        if target.name == "scan" and not self.name.endswith("-old"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(type(folder), "rename", fail)
    with pytest.raises(UserError, match="error"):
        CT.build().write(volume(1), folder / "scan", provenance, overwrite=True)
    assert (folder / "scan/0001.dcm").read_bytes() == before
    assert sorted(one.name for one in folder.iterdir()) == ["scan", "scan.json"]


def test_a_series_survives_a_copy(folder, provenance):
    """Files may be renamed and mixed: what belongs together stands inside them."""
    CT.build().write(volume(), folder / "scan", provenance)
    for number, path in enumerate(sorted((folder / "scan").iterdir(), reverse=True)):
        shutil.copy(path, folder / f"X{number}.dcm")
    found = [pydicom.dcmread(one) for one in sorted(folder.glob("X*.dcm"))]
    assert [int(one.InstanceNumber) for one in found] == [3, 2, 1]
    assert len({one.SeriesInstanceUID for one in found}) == 1


def test_provenance_of_many_letters(folder):
    told = Provenance(model="a\\b\n" + "ü胸" * 200, recipe="r\n\x07", seed=0, versions={"medweave": "1" * 200})
    CT.build().write(volume(), folder / "scan", told)
    found = read(folder / "scan")[0]
    assert len(found.ManufacturerModelName) == 64
    assert found.ManufacturerModelName.startswith("a/b ü")
    assert len(found.DerivationDescription) <= 1024
    assert read_mark(found, folder).provenance == told


@pytest.fixture
def small_disk():
    """A process whose files may have so many bytes only: writing beyond fails as on a full disk."""
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, was[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, was)


@pytest.mark.parametrize("config", [CT, SLICE], ids=["folder", "file"])
def test_a_full_disk_is_one_sentence(tmp_path, small_disk, provenance, config):
    shape = (3, 64, 64)[3 - config.dims :]
    spacing, orientation = (2.0,) * config.dims, "SPL"[3 - config.dims :]
    sample = Sample(
        modality="ct", data=np.zeros((1, *shape), np.float32), geometry=centred(shape, spacing, orientation)
    )
    writer = config.build()
    path = tmp_path / f"ct{writer.suffix}"
    small_disk(3000)
    with pytest.raises(UserError) as refused:
        writer.write(sample, path, provenance)
    assert str(refused.value) == f"{path}: cannot be written: File too large; check the folder"
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_says_what_to_do(folder):
    def fail():
        with atomic_write(folder / "a.dcm"):
            try:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:  # as pydicom does it
                raise OSError(
                    f"With tag (7FE0,0010) got exception: {error}\nTraceback (most recent call last):\n"
                ) from error

    with pytest.raises(UserError, match=r"a\.dcm: cannot be written: No space left on device; free some space, or"):
        fail()
