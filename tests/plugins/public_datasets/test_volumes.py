"""Brains, pelves, hearts and livers."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from plugins.public_datasets.dicom_series import contrast_of


def case(tree, folder, names, suffix=".nii.gz"):
    for name in names:
        tree.volume(f"{folder}/{name}{suffix}")


def test_brats_2018_to_2023(tree, scan):
    old = "MICCAI_BraTS_2018_Data_Training/LGG/Brats18_TCIA09_1_1"
    case(tree, old, [f"Brats18_TCIA09_1_1_{what}" for what in ("t1", "t1ce", "t2", "flair", "seg")])
    train = "MICCAI_BraTS2020_TrainingData"
    case(
        tree,
        f"{train}/BraTS20_Training_001",
        [f"BraTS20_Training_001_{w}" for w in ("t1", "t1ce", "t2", "flair", "seg")],
    )
    named = [f"BraTS20_Training_355_{what}" for what in ("t1", "t1ce", "t2", "flair")]
    case(tree, f"{train}/BraTS20_Training_355", [*named, "W39_1998.09.19_Segm"], ".nii")
    tree.table(
        f"{train}/name_mapping.csv",
        ["Grade", "BraTS_2017_subject_ID", "BraTS_2020_subject_ID"],
        ["HGG", "NA", "BraTS20_Training_001"],
    )
    held = "MICCAI_BraTS2020_ValidationData/BraTS20_Validation_002"
    case(tree, held, [f"BraTS20_Validation_002_{what}" for what in ("t1", "t1ce", "t2", "flair")])
    for time in ("000", "001"):
        new = f"ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00005-{time}"
        case(tree, new, [f"BraTS-GLI-00005-{time}-{what}" for what in ("t1n", "t1c", "t2w", "t2f", "seg")])
    records = {record.study: record for record in scan("brats", tree.root)}
    assert len(records) == 6
    contrasts = {"mri_t1", "mri_t1c", "mri_t2", "mri_flair"}
    assert all(set(record.files) == contrasts for record in records.values())
    first = records["BraTS20_Training_001"]
    folder = tree.root / train / first.study
    assert first.files["mri_t1c"] == (folder / "BraTS20_Training_001_t1ce.nii.gz",)
    assert first.masks == {"tumour": folder / "BraTS20_Training_001_seg.nii.gz"}
    assert first.labels == {"high_grade": 1}
    assert records["Brats18_TCIA09_1_1"].labels == {"high_grade": 0}
    assert records["BraTS20_Training_355"].masks["tumour"].name == "W39_1998.09.19_Segm.nii"
    assert {name: record.split for name, record in records.items() if record.split != "train"} == {
        "BraTS20_Validation_002": "validation"
    }
    later = records["BraTS-GLI-00005-001"]
    assert later.patient == records["BraTS-GLI-00005-000"].patient == "BraTS-GLI-00005"
    assert later.files["mri_flair"][0].name == "BraTS-GLI-00005-001-t2f.nii.gz"


def test_brats_2021_with_things_missing(tree, scan_with_warnings):
    case(tree, "BraTS2021_00000", [f"BraTS2021_00000_{what}" for what in ("t1", "t2", "flair")])
    (record,), (line,) = scan_with_warnings("brats", tree.root)
    assert set(record.files) == {"mri_t1", "mri_t2", "mri_flair"}
    assert record.masks == {}
    assert "1 cases with fewer than four contrasts (first: BraTS2021_00000)" in line
    assert "1 training cases without a mask" in line


def test_ixi(tree, scan_with_warnings):
    for what in ("T1", "T2", "PD"):
        tree.volume(f"IXI-{what}/IXI002-Guys-0828-{what}.nii.gz")
    tree.volume("IXI-T1/IXI012-HH-1211-T1.nii.gz")
    tree.volume("IXI-DTI/IXI002-Guys-0828-DTI-00.nii.gz")
    tree.table("IXI.csv", ["IXI_ID", "SEX_ID (1=m, 2=f)", "AGE"], [2, 2, 35.8], ["12.0", "", ""], [999, 1, 3])
    (first, second), (line,) = scan_with_warnings("ixi", tree.root)
    assert (first.patient, first.study) == ("IXI002", "IXI002-Guys-0828")
    assert {name: paths[0].name for name, paths in first.files.items()} == {
        "mri_t1": "IXI002-Guys-0828-T1.nii.gz",
        "mri_t2": "IXI002-Guys-0828-T2.nii.gz",
        "mri_pd": "IXI002-Guys-0828-PD.nii.gz",
    }
    assert first.strata == {"site": "Guys", "sex": "female"}
    assert (second.strata, set(second.files)) == ({"site": "HH"}, {"mri_t1"})
    assert "1 visits with fewer than three contrasts (first: IXI012-HH-1211)" in line


def test_ixi_tables_that_are_not_read_or_wrong(tree, scan_with_warnings, refusal):
    for what in ("T1", "T2", "PD"):
        tree.volume(f"IXI002-Guys-0828-{what}.nii.gz")
    tree.file("IXI.xls", b"\xd0\xcf\x11\xe0")
    (record,), (line,) = scan_with_warnings("ixi", tree.root)
    assert record.strata == {"site": "Guys"}
    assert "IXI.xls: is not read, so sexes are unknown; save it as IXI.csv" in line
    tree.table("IXI.csv", ["IXI_ID", "SEX_ID (1=m, 2=f)"], [2, 3])
    assert "IXI.csv, line 2: IXI_ID is no number, or the sex none of 1 and 2" in refusal("ixi", tree.root)


def heart(tree, part="training", patient="patient001", **changes):
    info = {"ED": "1", "ES": "12", "Group": "DCM", "Height": "184.0", "NbFrame": "30", "Weight": "95.0"} | changes
    folder = f"database/{part}/{patient}"
    tree.file(f"{folder}/Info.cfg", "".join(f"{key}: {value}\n" for key, value in info.items()))
    names = (f"{patient}_frame{frame:02d}{end}" for frame in (1, 12) for end in ("", "_gt"))
    case(tree, folder, [*names, f"{patient}_4d"])
    return tree.root / folder


def test_acdc(tree, scan):
    folder = heart(tree)
    heart(tree, "testing", "patient101", Group="NOR")
    held, _, diastole, systole = sorted(scan("acdc", tree.root), key=lambda record: record.split)
    assert (diastole.patient, diastole.study, systole.study) == (
        "patient001",
        "patient001_frame01",
        "patient001_frame12",
    )
    assert diastole.files == {"mri": (folder / "patient001_frame01.nii.gz",)}
    assert systole.masks == {"heart": folder / "patient001_frame12_gt.nii.gz"}
    assert diastole.labels == {"NOR": 0, "MINF": 0, "DCM": 1, "HCM": 0, "RV": 0}
    assert systole.texts == {"text": "Cardiac MRI, end-systolic, showing dilated cardiomyopathy."}
    assert systole.strata == {"phase": "ES"}
    assert (held.split, held.texts["text"]) == ("test", "Cardiac MRI, end-diastolic, showing no finding.")
    assert [record.split for record in scan("acdc", tree.root / "database/testing")] == ["test", "test"]


def test_acdc_with_things_missing(tree, scan_with_warnings):
    folder = heart(tree)
    (folder / "patient001_frame12.nii.gz").unlink()
    (folder / "patient001_frame01_gt.nii.gz").unlink()
    (record,), (line,) = scan_with_warnings("acdc", tree.root)
    assert record.masks == {}
    assert "1 masks that are not there" in line
    assert "1 frames that Info.cfg names and that are not there" in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("ED 1\n", "Info.cfg: 'ED 1' is no line 'name: value'"),
        ("ED: 1\n", "Info.cfg: ES is '', expected a frame's number"),
        ("ED: one\nES: 2\n", "ED is 'one'"),
        ("ED: 1\nES: 2\nGroup: FINE\n", "Group is 'FINE' (known: NOR, MINF"),
        (b"\xff\xfe", "cannot be read as a list in UTF-8"),
    ],
)
def test_a_wrong_acdc_patient(tree, refusal, content, expected):
    folder = heart(tree)
    tree.file(f"{folder.relative_to(tree.root)}/Info.cfg", content)
    assert expected in refusal("acdc", tree.root)


def liver(tree, folder, *names):
    for name in names:
        tree.file(f"{folder}/{name}.mhd", "ObjectType = Image\n")
        tree.file(f"{folder}/{name}.raw", b"\0")


def test_sliver07(tree, scan_with_warnings):
    liver(tree, "training/scan", "liver-orig001", "liver-orig002")
    liver(tree, "training/label", "liver-seg001")
    liver(tree, "test", "liver-orig001")
    (held, first, second), (line,) = scan_with_warnings("sliver07", tree.root)
    assert (first.patient, first.split, held.patient, held.split) == ("train-001", "train", "test-001", "test")
    assert first.files == {"ct": (tree.root / "training/scan/liver-orig001.mhd",)}
    assert first.masks == {"liver": tree.root / "training/label/liver-seg001.mhd"}
    assert first.texts == {"text": "Abdominal CT image showing liver."}
    assert (held.masks, second.masks) == ({}, {})
    assert "1 masks of training scans that are not there (first:" in line


def test_sliver07_without_voxels(tree, refusal):
    liver(tree, ".", "liver-orig001")
    (tree.root / "liver-orig001.raw").unlink()
    assert "liver-orig001.mhd: has no liver-orig001.raw in the same folder" in refusal("sliver07", tree.root)


def test_gold_atlas(tree, scan_with_warnings):
    """Headers tell series apart; the CT that was deformed onto the MRI comes first."""
    original = {"Modality": "CT", "FrameOfReferenceUID": "1.9.1", "PatientID": "x"}
    deformed = original | {"FrameOfReferenceUID": "1.9.2"}
    mr = {"Modality": "MR", "FrameOfReferenceUID": "1.9.2", "PatientID": "x"}
    tree.series("1_01_P", "10", **original)
    tree.series("1_01_P", "11", num=5, **deformed)
    tree.series("1_01_P", "12", EchoTime=12, RepetitionTime=600, **mr)
    tree.series("1_01_P", "13", SeriesDescription="T2 tra", **mr)
    tree.dicom("1_01_P/structures.dcm", Modality="RTSTRUCT")
    tree.file("1_01_P/broken.dcm", b"no DICOM")
    tree.series("1_02_P/CT", "14", **original)
    (first, second), (line,) = scan_with_warnings("gold_atlas", tree.root)
    names = {name: [path.name for path in paths] for name, paths in first.files.items()}
    # Names run against positions: the middle of five is the third.
    assert names == {
        "ct": ["11-02.dcm", "10-01.dcm"],
        "mri": ["13-01.dcm", "12-01.dcm"],
        "mri_t1": ["12-01.dcm"],
        "mri_t2": ["13-01.dcm"],
    }
    assert (second.patient, second.files) == ("1_02_P", {"ct": (tree.root / "1_02_P/CT",)})
    assert "1 files of the modality 'RTSTRUCT'" in line
    assert "1 files that are no DICOM" in line


def test_the_middle_file_lies_in_the_middle(tree, scan):
    """Along an oblique normal, whatever the names and instance numbers say."""
    from math import cos, sin

    for index, name in enumerate("ebdac"):
        tree.dicom(
            f"p/{name}.dcm",
            Modality="MR",
            SeriesInstanceUID="1.2",
            ImageOrientationPatient=[cos(0.3), sin(0.3), 0, 0, 0, -1],
            ImagePositionPatient=[-sin(0.3) * index * 4 + cos(0.3) * 9, cos(0.3) * index * 4 + sin(0.3) * 9, 3],
        )
    tree.dicom("p/other.dcm", Modality="MR", SeriesInstanceUID="1.3", SeriesDescription="PD")
    (record,) = scan("gold_atlas", tree.root)
    assert [path.name for path in record.files["mri"]] == ["d.dcm", "other.dcm"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"SeriesDescription": "AX T1 POST GD"}, "t1c"),
        ({"SeriesDescription": "t1 mprage", "ContrastBolusAgent": "Gadovist"}, "t1c"),
        ({"SeriesDescription": "T1 sag"}, "t1"),
        ({"SeriesDescription": "AX T2 FLAIR"}, "flair"),
        ({"SeriesDescription": "T2* gre"}, ""),
        ({"SeriesDescription": "T2w TSE"}, "t2"),
        ({"EchoTime": 90, "RepetitionTime": 4000}, "t2"),
        ({"EchoTime": 10, "RepetitionTime": 500}, "t1"),
        ({"EchoTime": 15, "RepetitionTime": 3000}, "pd"),
        ({"EchoTime": 45, "RepetitionTime": 3000}, ""),
        ({"SeriesDescription": "localizer"}, ""),
    ],
)
def test_a_contrast_is_what_the_header_says(tags, expected):
    header = Dataset()
    for tag, value in tags.items():
        setattr(header, tag, value)
    assert contrast_of(header) == expected


def test_brain_mri_ct(tree, scan_with_warnings):
    tree.series("Dicom/CPTAC-GBM/C3L-1/01-01", "20", Modality="CT", PatientID="C3L-1")
    tree.series("Dicom/CPTAC-GBM/C3L-1/02-02", "21", Modality="MR", PatientID="C3L-1", SeriesDescription="T1")
    tree.series("Dicom/CPTAC-GBM/C3L-1/02-03", "22", 5, Modality="MR", PatientID="C3L-1")
    tree.dicom(
        "Dicom/CPTAC-GBM/C3L-1/02-04/scout.dcm", Modality="MR", PatientID="C3L-1", ImageType=["A", "B", "LOCALIZER"]
    )
    tree.series("Dicom/TCGA-GBM/T-2/01", "23", Modality="MR", PatientID="T-2")
    tree.series("Dicom/TCGA-GBM/T-3/01", "24", Modality="MR")
    tree.file("data(processed)/train_input.npy")
    (first, second), (line,) = scan_with_warnings("brain_mri_ct", tree.root)
    folder = tree.root / "Dicom/CPTAC-GBM/C3L-1"
    assert (first.patient, second.patient) == ("C3L-1", "T-2")
    assert first.files == {
        "ct": (folder / "01-01",),
        "mri": (folder / "02-03", folder / "02-02"),
        "mri_t1": (folder / "02-02",),
    }
    assert "1 localizers" in line
    assert "1 series without a patient" in line
    assert "1 patients with CT or MRI alone (first: T-2)" in line


def test_brain_mri_ct_arrays_are_refused(tree, refusal):
    tree.file("data(processed)/train_input.npy")
    message = refusal("brain_mri_ct", tree.root)
    assert "holds no CT or MR series in DICOM (the arrays, such as train_input.npy" in message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brats", "holds no case of BraTS; expected files like BraTS20_Training_001_t1.nii.gz"),
        ("ixi", "holds no file like IXI002-Guys-0828-T1.nii.gz"),
        ("acdc", "holds no patient001/Info.cfg"),
        ("sliver07", "holds no liver-orig001.mhd"),
        ("gold_atlas", "holds no folder with CT or MR series in DICOM"),
        ("brain_mri_ct", "holds no CT or MR series in DICOM; point root at"),
    ],
)
def test_another_tree_is_refused(tree, refusal, name, expected):
    tree.file("holiday/beach.jpg")
    tree.file("notes.txt")
    message = refusal(name, tree.root)
    assert expected in message
    assert str(tree.root) in message


def test_a_link_that_leads_round_is_followed_once(tree, scan_with_warnings):
    case(tree, "BraTS2021_00000", [f"BraTS2021_00000_{what}" for what in ("t1", "t1ce", "t2", "flair", "seg")])
    (tree.root / "BraTS2021_00000" / "again").symlink_to(tree.root, target_is_directory=True)
    (tree.root / "linked").symlink_to(Path(tree.root / "BraTS2021_00000"), target_is_directory=True)
    records, _ = scan_with_warnings("brats", tree.root)
    assert [record.study for record in records] == ["BraTS2021_00000"]
