"""MIMIC-CXR: both trees, the official split, CheXpert's marks, and its size."""

import time
import tracemalloc
from itertools import islice

import pytest

from plugins.public_datasets.mimic_cxr.adapter import MIMIC_CXR, impression_of

META = ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows"]
FINDINGS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,"
    "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
).split(",")
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 FINDINGS:

 An invented mass: it lies in the left lung.

 IMPRESSION:

 1. Invented mass.
 2. No effusion.
"""


def rows_of(*images):
    return [[dicom, patient, study, "CHEST", view, "3000"] for dicom, patient, study, view in images]


@pytest.fixture
def mimic(tree):
    tree.table(
        "mimic-cxr-2.0.0-metadata.csv",
        META,
        *rows_of(
            ("ap", 10000032, 50414267, "AP"),
            ("lat", 10000032, 50414267, "LATERAL"),
            ("pa", 10000032, 50414267, "PA"),
            ("odd", 10000032, 50414267, "LAO"),
            ("only", 10000032, 53189527, "LL"),
            ("far", 19999999, 59999999, "PA"),
        ),
    )
    tree.table(
        "mimic-cxr-2.0.0-split.csv",
        ["dicom_id", "study_id", "subject_id", "split"],
        ["ap", 50414267, 10000032, "train"],
        ["lat", 50414267, 10000032, "train"],
        ["far", 59999999, 19999999, "validate"],
    )
    marks = {"Atelectasis": "1.0", "Edema": "0.0", "Pneumonia": "-1.0"}
    tree.table(
        "mimic-cxr-2.0.0-chexpert.csv",
        ["subject_id", "study_id", *FINDINGS],
        [10000032, 50414267, *(marks.get(name, "") for name in FINDINGS)],
    )
    first = "files/p10/p10000032"
    for name in ("ap", "lat", "pa", "odd"):
        tree.picture(f"{first}/s50414267/{name}.jpg")
    tree.picture(f"{first}/s53189527/only.jpg")
    tree.picture("files/p19/p19999999/s59999999/far.jpg")
    tree.file(f"{first}/s50414267.txt", REPORT)
    tree.file(f"{first}/s53189527.txt", "FINDINGS: Clear, as invented.")
    tree.file("files/p19/p19999999/s59999999.txt", "IMPRESSION: Normal, as invented.")
    return tree


def test_a_study_has_its_views_report_split_and_labels(mimic, scan_with_warnings):
    (first, second, far), warned = scan_with_warnings("mimic_cxr", mimic.root)
    folder = mimic.root / "files/p10/p10000032"
    assert (first.patient, first.study, first.split) == ("p10000032", "s50414267", "train")
    assert first.files == {
        "xray_frontal": (folder / "s50414267/pa.jpg", folder / "s50414267/ap.jpg"),
        "xray_lateral": (folder / "s50414267/lat.jpg",),
        "text": (folder / "s50414267.txt",),
    }
    assert first.labels == {"Atelectasis": 1, "Edema": 0}, "uncertain (-1) and empty are both unknown"
    assert (second.labels, set(second.files)) == ({}, {"xray_lateral", "text"})
    assert far.split == "validation"
    assert all(path.is_file() for record in (first, second, far) for paths in record.files.values() for path in paths)
    (line,) = warned
    assert "1 images of the view 'LAO' (first: odd)" in line


def test_impressions_alone_as_the_papers_use_them(mimic, scan_with_warnings):
    (first, second, far), (line,) = scan_with_warnings("mimic_cxr_impression", mimic.root)
    assert first.texts == {"text": "1. Invented mass. 2. No effusion."}
    assert "text" not in first.files
    assert (second.texts, far.texts) == ({}, {"text": "Normal, as invented."})
    assert "1 reports without an impression (first:" in line


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("IMPRESSION:  One.\n\nNOTIFICATION: Told by phone.", "One."),
        ("IMPRESSION: Old.\nADDENDUM: x\nIMPRESSION:\n New: a line.\n Another.", "New: a line. Another."),
        ("FINDINGS: no such section", ""),
        ("", ""),
    ],
)
def test_the_impression_of_a_report(report, expected):
    assert impression_of(report) == expected


def test_dicom_comes_before_jpg_and_zipped_tables_are_read(mimic, scan_with_warnings):
    for name in ("metadata", "split"):
        path = mimic.root / f"mimic-cxr-2.0.0-{name}.csv"
        rows = [line.split(",") for line in path.read_text().splitlines()]
        path.unlink()
        mimic.table(f"{path.name}.gz", *rows)
    dicom = mimic.dicom("files/p10/p10000032/s50414267/pa.dcm")
    (first, *_), _ = scan_with_warnings("mimic_cxr", mimic.root)
    assert first.files["xray_frontal"][0] == dicom


def test_what_is_listed_and_not_there_is_counted(mimic, scan_with_warnings):
    (mimic.root / "files/p10/p10000032/s50414267/lat.jpg").unlink()
    (mimic.root / "files/p19/p19999999/s59999999.txt").unlink()
    (first, _, far), (line,) = scan_with_warnings("mimic_cxr", mimic.root)
    assert set(first.files) == {"xray_frontal", "text"}
    assert set(far.files) == {"xray_frontal"}
    assert "1 images listed in mimic-cxr-2.0.0-metadata.csv that are not there (first:" in line
    assert "1 reports that are not there" in line


def test_a_part_of_the_data_gives_its_own_studies(mimic, scan_with_warnings):
    for path in sorted((mimic.root / "files/p10").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    records, (line,) = scan_with_warnings("mimic_cxr", mimic.root)
    assert [record.patient for record in records] == ["p19999999"]
    assert "4 images listed" in line


def test_wrong_roots_say_what_is_missing(mimic, refusal, tmp_path):
    assert "has no mimic-cxr-2.0.0-metadata.csv" in refusal("mimic_cxr", mimic.root / "files")
    assert "point root at the folder that holds both" in refusal("mimic_cxr", tmp_path / "nowhere")
    (mimic.root / "files").rename(mimic.root / "elsewhere")
    assert "files/p10/p10000032/s50414267/<dicom_id>.dcm or .jpg" in refusal("mimic_cxr", mimic.root)
    (mimic.root / "mimic-cxr-2.0.0-split.csv").unlink()
    assert "has no mimic-cxr-2.0.0-split.csv" in refusal("mimic_cxr", mimic.root)


@pytest.mark.parametrize(
    ("table", "rows", "expected"),
    [
        ("metadata", [META[:3], ["x", 1, 2]], "lacks the columns ViewPosition"),
        ("metadata", [META, ["x", "one", "2", "", "PA", ""]], "metadata.csv, line 2: subject_id is 'one'"),
        ("metadata", [META, ["", "1", "2", "", "PA", ""]], "line 2: dicom_id is empty"),
        ("metadata", [META, ["x", "10000032"]], "line 2: the row ends before the column study_id"),
        (
            "metadata",
            [META, *rows_of(("a", 10000032, 1, "PA"), ("b", 10000032, 2, "PA"), ("c", 10000032, 1, "LL"))],
            "line 4: study s1 comes back; sort the table",
        ),
        ("split", [["subject_id", "split"], ["10000032", "dev"]], "split.csv, line 2: split 'dev' (known: train"),
        ("split", [["subject_id", "split"], [1, "train"], [1, "test"]], "line 3: patient p1 is in two splits"),
        ("split", [["subject_id", "split"], [1, "train"]], "patient p10000032 of mimic-cxr-2.0.0-metadata.csv has no"),
        (
            "chexpert",
            [["subject_id", "study_id", *FINDINGS], [1, 2, *["maybe"] * 14]],
            "chexpert.csv, line 2: Atelectasis is 'maybe', expected 1.0, 0.0, -1.0 or nothing",
        ),
    ],
)
def test_a_wrong_row_names_file_and_line(mimic, refusal, table, rows, expected):
    mimic.table(f"mimic-cxr-2.0.0-{table}.csv", *rows)
    assert expected in refusal("mimic_cxr", mimic.root)


def test_a_broken_archive_is_one_line(mimic, refusal):
    path = mimic.root / "mimic-cxr-2.0.0-metadata.csv"
    path.unlink()
    mimic.table(f"{path.name}.gz", META, *rows_of(("a", 10000032, 1, "PA")))
    whole = (mimic.root / f"{path.name}.gz").read_bytes()
    for content in (whole[:-9], b"no gzip", whole[:12] + b"\xff" * 30):
        mimic.file(f"{path.name}.gz", content)
        assert f"{path.name}.gz: " in refusal("mimic_cxr", mimic.root)


def test_twenty_thousand_images_are_scanned_in_seconds_and_little_memory(tree):
    num = 20_000
    images = [(f"d{i}", 10_000_000 + i // 4, 50_000_000 + i // 2, ("PA", "LATERAL")[i % 2]) for i in range(num)]
    tree.table("mimic-cxr-2.0.0-metadata.csv", META, *rows_of(*images))
    patients = sorted({patient for _, patient, _, _ in images})
    tree.table("mimic-cxr-2.0.0-split.csv", ["subject_id", "split"], *([patient, "train"] for patient in patients))
    tree.table(
        "mimic-cxr-2.0.0-chexpert.csv",
        ["subject_id", "study_id", *FINDINGS],
        *([1, 50_000_000 + i, *["1.0"] * 14] for i in range(num // 2)),
    )
    for patient in patients:
        folder = tree.root / f"files/p{str(patient)[:2]}/p{patient}"
        for study in range(2):
            (folder / f"s{50_000_000 + (patient - 10_000_000) * 2 + study}").mkdir(parents=True)
    for dicom, patient, study, _ in images:
        with open(tree.root / f"files/p{str(patient)[:2]}/p{patient}/s{study}/{dicom}.jpg", "wb"):
            pass
    for i in range(num // 2):
        with open(tree.root / f"files/p10/p{10_000_000 + i // 2}/s{50_000_000 + i}.txt", "wb"):
            pass
    start = time.process_time()
    num_files = sum(len(record.files) for record in MIMIC_CXR.scan(tree.root))
    assert time.process_time() - start < 10
    assert num_files == num + num // 2

    tracemalloc.start()
    records = MIMIC_CXR.scan(tree.root)
    next(records)
    tables = tracemalloc.get_traced_memory()[0]
    assert sum(1 for _ in islice(records, 2000)) == 2000
    growth = tracemalloc.get_traced_memory()[1] - tables
    tracemalloc.stop()
    assert tables < 4_000_000, "splits and labels of 10,000 studies"
    assert growth < 1_000_000, "records do not stay in memory"
