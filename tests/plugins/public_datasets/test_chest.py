"""ChestX-ray14, IU X-ray and MedICaT."""

import json

import pytest

from plugins.public_datasets.medicat import TABLE, modality_of

ENTRY = [
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"),
    *("View Position", "OriginalImage[Width", "Height]"),
]


@pytest.fixture
def nih(tree):
    tree.table(
        "Data_Entry_2017.csv",
        ENTRY,
        ["00000001_000.png", "Cardiomegaly|Emphysema", 0, 1, 58, "M", "PA", 2682, 2749],
        ["00000001_001.png", "No Finding", 1, 1, 58, "M", "AP", 2682, 2749],
        ["00000002_000.png", "Pleural_Thickening", 0, 2, 81, "F", "PA", 2500, 2048],
    )
    tree.file("train_val_list.txt", "00000001_000.png\n00000001_001.png\n")
    tree.file("test_list.txt", "00000002_000.png\n")
    tree.picture("images_001/images/00000001_000.png")
    tree.picture("images_001/images/00000001_001.png")
    tree.picture("images_002/images/00000002_000.png")
    return tree


def test_chestxray14(nih, scan):
    first, second, third = scan("chestxray14", nih.root)
    assert (first.patient, first.study, first.split) == ("1", "00000001_000", "train")
    assert first.files == {"xray_frontal": (nih.root / "images_001/images/00000001_000.png",)}
    assert {name for name, mark in first.labels.items() if mark} == {"Cardiomegaly", "Emphysema"}
    assert len(first.labels) == 15
    assert first.texts == {"text": "Chest X-ray image showing cardiomegaly and emphysema."}
    assert (second.patient, second.texts) == ("1", {"text": "Chest X-ray image showing no finding."})
    assert second.labels["No Finding"] == 1
    assert (third.split, third.strata) == ("test", {"sex": "F", "view": "PA"})
    assert third.texts == {"text": "Chest X-ray image showing pleural thickening."}


def test_chestxray14_in_one_folder_with_a_missing_image_and_without_lists(nih, scan_with_warnings):
    (nih.root / "images").mkdir()
    for path in (nih.root / "images_001/images").iterdir():
        path.rename(nih.root / "images" / path.name)
    (nih.root / "images_002/images/00000002_000.png").unlink()
    for name in ("train_val_list.txt", "test_list.txt"):
        (nih.root / name).unlink()
    records, warned = scan_with_warnings("chestxray14", nih.root)
    assert [record.study for record in records] == ["00000001_000", "00000001_001"]
    assert any("no official split; set split = 'by_patient'" in line for line in warned)
    assert any("1 images listed in Data_Entry_2017.csv that are not there" in line for line in warned)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tree: (tree.root / "Data_Entry_2017.csv").unlink(), "has no Data_Entry_2017.csv"),
        (lambda tree: (tree.root / "test_list.txt").unlink(), "has no test_list.txt; download it again"),
        (lambda tree: tree.file("test_list.txt", "00000001_000.png"), "00000001_000.png stands in train_val_list.txt"),
        (lambda tree: tree.file("test_list.txt", "x.png"), "line 4: 00000002_000.png is neither in"),
        (lambda tree: tree.file("test_list.txt", b"\xff\xfe\x00"), "test_list.txt: cannot be read as a list in UTF-8"),
        (
            lambda tree: tree.table("Data_Entry_2017.csv", ENTRY, ["a.png", "Gout", 0, 1, 5, "M", "PA", 1, 1]),
            "Data_Entry_2017.csv, line 2: finding 'Gout' is none of the 14",
        ),
        (
            lambda tree: tree.table("Data_Entry_2017.csv", ENTRY, ["a.png", "Mass", 0, 1, 5, "M", "LL", 1, 1]),
            "line 2: View Position is 'LL', expected PA or AP",
        ),
        (lambda tree: tree.table("Data_Entry_2017.csv", ENTRY, ["a.png"]), "line 2: the row ends before the column"),
        (lambda tree: tree.file("Data_Entry_2017.csv", b"\xff\xfe\x00"), "is no table in UTF-8"),
    ],
)
def test_a_wrong_chestxray14(nih, refusal, change, expected):
    change(nih)
    assert expected in refusal("chestxray14", nih.root)


def test_chestxray14_without_images(nih, refusal):
    for name in ("images_001", "images_002"):
        (nih.root / name).rename(nih.root / f"x{name}")
    assert "holds no image of Data_Entry_2017.csv" in refusal("chestxray14", nih.root)


XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION">Invented für the test</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText><AbstractText Label="IMPRESSION">{impression}</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH><major>{mesh}</major><major>Cardiomegaly/mild</major></MeSH>{images}</eCitation>"""
PARENT = '<parentImage id="{}"><figureId>F1</figureId></parentImage>'
PROJECTIONS = [
    ["uid", "filename", "projection"],
    ["1", "1_IM-0001-4001.dcm.png", "Frontal"],
    ["1", "1_IM-0001-3001.dcm.png", "Lateral"],
    ["10", "10_IM-0002-1001.dcm.png", "Frontal"],
]


@pytest.fixture
def openi(tree):
    images = PARENT.format("CXR1_1_IM-0001-3001") + PARENT.format("CXR1_1_IM-0001-4001")
    tree.file("ecgen-radiology/1.xml", XML.format(findings="Cläre.", impression="", mesh="normal", images=images))
    image = PARENT.format("CXR10_IM-0002-1001")
    tree.file("ecgen-radiology/10.xml", XML.format(findings="A.\n B.", impression="Fine.", mesh="", images=image))
    tree.file("ecgen-radiology/2.xml", XML.format(findings="", impression="No image.", mesh="x", images=""))
    for name in ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR10_IM-0002-1001"):
        tree.picture(f"NLMCXR_png/{name}.png")
    tree.table("indiana_projections.csv", *PROJECTIONS)
    return tree


def test_iu_xray_as_xml(openi, scan):
    first, second, tenth = scan("iu_xray", openi.root)
    assert [record.patient for record in (first, second, tenth)] == ["CXR1", "CXR2", "CXR10"]
    assert first.files == {
        "xray_lateral": (openi.root / "NLMCXR_png/CXR1_1_IM-0001-3001.png",),
        "xray_frontal": (openi.root / "NLMCXR_png/CXR1_1_IM-0001-4001.png",),
    }
    assert first.texts == {"text": "FINDINGS: Cläre."}
    assert first.labels == {"normal": 1, "Cardiomegaly": 1}
    assert (second.files, second.texts) == ({}, {"text": "IMPRESSION: No image."})
    assert tenth.texts == {"text": "FINDINGS: A. B.\nIMPRESSION: Fine."}


def test_iu_xray_views_of_dicom_come_from_the_headers(openi, scan_with_warnings):
    (openi.root / "indiana_projections.csv").unlink()
    for path in (openi.root / "NLMCXR_png").iterdir():
        path.unlink()
    openi.dicom("NLMCXR_dcm/1/1_IM-0001-3001.dcm", ViewPosition="LL")
    openi.dicom("NLMCXR_dcm/1/1_IM-0001-4001.dcm", ViewPosition="PA")
    openi.dicom("NLMCXR_dcm/10/10_IM-0002-1001.dcm")
    (first, _, tenth), (line,) = scan_with_warnings("iu_xray", openi.root)
    assert {name: paths[0].name for name, paths in first.files.items()} == {
        "xray_lateral": "1_IM-0001-3001.dcm",
        "xray_frontal": "1_IM-0001-4001.dcm",
    }
    assert tenth.files == {}
    assert "1 images whose view is not stated" in line


def test_iu_xray_pictures_say_no_view_and_none_is_guessed(openi, refusal):
    (openi.root / "indiana_projections.csv").unlink()
    assert "no image of ecgen-radiology is there with its view; put NLMCXR_png" in refusal("iu_xray", openi.root)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<eCitation>", "cannot be read as XML"),
        ("", "cannot be read as XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares entities"),
        ("<a>" + " " * 1_000_001 + "</a>", "too large"),
        ('<a><parentImage id="picture"/></a>', "parentImage has the id 'picture'"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "cannot be read as XML"),
    ],
)
def test_a_wrong_iu_xray_report(openi, refusal, content, expected):
    openi.file("ecgen-radiology/1.xml", content)
    message = refusal("iu_xray", openi.root)
    assert expected in message
    assert "1.xml" in message


@pytest.fixture
def kaggle(tree):
    tree.table("indiana_projections.csv", *PROJECTIONS)
    header = ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"]
    tree.table("indiana_reports.csv", header, [1, "", "normal;Scar", "", "", "", "Clear.", "Normal."], [10, *[""] * 7])
    for _, name, _ in PROJECTIONS[1:]:
        tree.picture(f"images/images_normalized/{name}")
    return tree


def test_iu_xray_as_tables(kaggle, scan):
    first, tenth = scan("iu_xray", kaggle.root)
    assert set(first.files) == {"xray_frontal", "xray_lateral"}
    assert first.texts == {"text": "FINDINGS: Clear.\nIMPRESSION: Normal."}
    assert first.labels == {"normal": 1, "Scar": 1}
    assert (tenth.texts, set(tenth.files)) == ({}, {"xray_frontal"})


def test_a_wrong_table_of_iu_xray(kaggle, refusal, scan_with_warnings):
    (kaggle.root / "images/images_normalized/1_IM-0001-3001.dcm.png").unlink()
    records, (line,) = scan_with_warnings("iu_xray", kaggle.root)
    assert set(records[0].files) == {"xray_frontal"}
    assert "1 images that are listed and not there (first: 1_IM-0001-3001)" in line
    kaggle.table("indiana_projections.csv", PROJECTIONS[0], ["1", "2_IM-0001-4001.dcm.png", "Frontal"])
    assert "indiana_projections.csv, line 2: '2_IM-0001-4001.dcm.png' is no image of 1" in refusal(
        "iu_xray", kaggle.root
    )
    (kaggle.root / "indiana_projections.csv").unlink()
    assert "it says which image is frontal" in refusal("iu_xray", kaggle.root)


def test_iu_xray_as_r2gen(tree, scan_with_warnings):
    entry = {
        "id": "CXR2384_IM-0942",
        "report": "Invented.",
        "image_path": ["CXR2384_IM-0942/0.png", "CXR2384_IM-0942/1.png"],
    }
    other = {**entry, "id": "CXR7_IM-1", "image_path": ["CXR7_IM-1/0.png", "CXR7_IM-1/1.png"]}
    tree.file("annotation.json", json.dumps({"train": [entry], "val": [], "test": [other]}))
    for name in (*entry["image_path"], "CXR7_IM-1/0.png"):
        tree.picture(f"images/{name}")
    (first, second), warned = scan_with_warnings("iu_xray", tree.root)
    assert (first.patient, first.study, first.split) == ("CXR2384", "CXR2384_IM-0942", "train")
    assert [paths[0].name for paths in first.files.values()] == ["0.png", "1.png"]
    assert list(first.files) == ["xray_frontal", "xray_lateral"]
    assert (second.split, set(second.files)) == ("test", {"xray_frontal"})
    assert "states no views" in warned[0]
    assert "1 images listed in annotation.json that are not there" in warned[1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "has no table instead of train, val and test"),
        ('{"train": [], "val": []}', "has test instead of"),
        ('{"train": [{"id": 3}], "val": [], "test": []}', "train[0]: needs id, report and image_path"),
        (
            '{"train": [{"id": "a", "report": "b", "image_path": ["../c", "d"]}], "val": [], "test": []}',
            "train[0]: needs id, report and image_path",
        ),
        (
            '{"train": [{"id": "a", "report": "b", "image_path": ["c"]}], "val": [], "test": []}',
            "train[0]: has 1 images, expected two",
        ),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_a_wrong_annotation(tree, refusal, content, expected):
    tree.file("annotation.json", content)
    assert expected in refusal("iu_xray", tree.root)


def test_no_layout_of_iu_xray(tree, refusal):
    tree.file("x.txt")
    assert "has none of annotation.json, indiana_reports.csv, ecgen-radiology" in refusal("iu_xray", tree.root)


@pytest.fixture
def medicat(tree):
    def figure(number, caption, radiology=True, **more):
        return {
            "pdf_hash": "ab12",
            "fig_uri": f"{number}-Figure1-1.png",
            "s2_caption": caption,
            "radiology": radiology,
        } | more

    figures = [
        figure(1, "Figure 1. Computed tomography of the liver."),
        figure(2, "MRI größer than the rest.", pdf_hash="cd34"),
        figure(3, "Posteroanterior chest radiograph."),
        figure(4, "CT", radiology=False),
        figure(5, "(A) CT and (B) MRI."),
        figure(6, None, s2orc_caption="Lateral chest x-ray."),
        figure(7, "CT of the head."),
    ]
    tree.file(TABLE, "\n".join(json.dumps(entry) for entry in figures) + "\n")
    for entry in figures[:6]:
        tree.picture(f"figures/{entry['pdf_hash']}_{entry['fig_uri']}")
    return tree


def test_medicat(medicat, scan_with_warnings):
    records, (line,) = scan_with_warnings("medicat", medicat.root)
    assert [list(record.files) for record in records] == [["ct"], ["mri"], ["xray_frontal"], ["xray_lateral"]]
    assert records[1].patient == "cd34"
    assert records[1].texts == {"text": "MRI größer than the rest."}
    assert records[0].study == "ab12_1-Figure1-1"
    assert all(path.is_file() for record in records for paths in record.files.values() for path in paths)
    assert "1 figures that are no radiology" in line
    assert "1 compound figures" in line
    assert "that are not there (first: ab12_7-Figure1-1.png)" in line


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Abdominal CT image reveals a tumor (arrow).", "ct"),
        ("Contrast-enhanced computerized tomography of the chest.", "ct"),
        ("T2-weighted image of the knee.", "mri"),
        ("Magnetic resonance image.", "mri"),
        ("Chest X-ray, AP view.", "xray_frontal"),
        ("Frontal radiograph of the chest.", "xray_frontal"),
    ],
)
def test_the_kind_of_a_figure(caption, expected):
    assert modality_of(caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        *(
            "",
            "PET/CT of the abdomen.",
            "CT and MRI of the brain.",
            "Chest radiograph.",
            "Lateral radiograph of the knee.",
        ),
        *(
            "PA and lateral chest radiograph.",
            "Brain CT (A) and diffusion images.",
            "Echocardiography.",
            "The patient.",
        ),
        "The ct of a word and no doctor",
    ],
)
def test_what_a_caption_does_not_say_is_not_guessed(caption):
    assert " " in modality_of(caption)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "entry 1: is no JSON"),
        ("[1]", "entry 1: has no pdf_hash"),
        ('{"pdf_hash": "a"}', "entry 1: has no fig_uri"),
        ('{"pdf_hash": "a", "fig_uri": "b", "s2_caption": 3, "radiology": true}', "entry 1: a caption is no text"),
    ],
)
def test_a_wrong_line_of_medicat(medicat, refusal, line, expected):
    medicat.file(TABLE, line)
    assert expected in refusal("medicat", medicat.root)


def test_medicat_without_its_table_or_anything_of_use(medicat, refusal):
    assert "has no s2_full_figures" in refusal("medicat", medicat.root / "figures")
    medicat.file(TABLE, '{"pdf_hash": "a", "fig_uri": "b", "s2_caption": "CT.", "radiology": true}')
    assert "no figure of s2_full_figures" in refusal("medicat", medicat.root)
