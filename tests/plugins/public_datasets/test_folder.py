"""A folder of your own."""

import pytest


def test_files_are_named_by_modality(tree, scan_with_warnings):
    for name in ("frontal.dcm", "x_lateral.png", "case7_mri_t1.nii.gz", "t1c.nii", "CT/1.dcm", "old-frontal.png"):
        tree.file(f"Müller 1/{name}")
    for name in ("report.txt", "liver_mask.nii.gz", "seg.nii.gz", "frontal.json", "map.png", ".hidden"):
        tree.file(f"Müller 1/{name}")
    tree.file("p2/mri.mhd")
    tree.file("p2/mri.raw")
    tree.file("empty/notes.doc")
    (first, second), (line,) = scan_with_warnings("folder", tree.root)
    folder = tree.root / "Müller 1"
    assert first.files == {
        "ct": (folder / "CT",),
        "mri_t1": (folder / "case7_mri_t1.nii.gz",),
        "xray_frontal": (folder / "frontal.dcm", folder / "old-frontal.png"),
        "text": (folder / "report.txt",),
        "mri_t1c": (folder / "t1c.nii",),
        "xray_lateral": (folder / "x_lateral.png",),
    }
    assert first.masks == {"liver": folder / "liver_mask.nii.gz", "mask": folder / "seg.nii.gz"}
    assert (second.patient, second.files) == ("p2", {"mri": (tree.root / "p2/mri.mhd",)})
    assert (first.patient, first.study, first.split) == ("Müller 1", "Müller 1", "train")
    assert "2 files that no pattern names" in line
    assert "1 folders that hold no modality" in line


def test_patterns_and_a_table_say_it_otherwise(tree, scan):
    tree.file(
        "folder.toml",
        'studies = "*/*"\n[modalities]\nxray_frontal = ["*_pa.dcm"]\nultrasound = ["us*.png"]\n[masks]\nlesion = ["*_l.png"]\n',
    )
    for name in ("a_pa.dcm", "us1.png", "us2.png", "us1_l.png"):
        tree.file(f"p1/visit1/{name}")
    tree.file("p1/visit2/us9.png")
    tree.table(
        "studies.csv", ["study", "split", "mass", "scar"], ["p1/visit1", "test", 1, ""], ["p1/visit2", "test", 0, 0]
    )
    first, second = scan("folder", tree.root)
    assert {name: [path.name for path in paths] for name, paths in first.files.items()} == {
        "xray_frontal": ["a_pa.dcm"],
        "ultrasound": ["us1.png", "us2.png"],
    }
    assert [path.name for path in first.masks.values()] == ["us1_l.png"]
    assert (first.patient, first.study, first.split, first.labels) == ("p1", "p1/visit1", "test", {"mass": 1})
    assert second.labels == {"mass": 0, "scar": 0}


def test_a_table_may_name_patients_and_studies_that_are_gone(tree, scan_with_warnings):
    tree.file("a/ct.nii.gz")
    tree.table("studies.csv", ["study", "patient"], ["a", "p9"], ["b", "p9"])
    (record,), (line,) = scan_with_warnings("folder", tree.root)
    assert record.patient == "p9"
    assert "1 studies of studies.csv that are not there (first: b)" in line


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("folder.toml", "studies = [", "folder.toml: cannot be read as TOML"),
        ("folder.toml", "study = '*'", "folder.toml: study: Extra inputs are not permitted (known: studies"),
        ("folder.toml", "modalities.ct = 3", "folder.toml: modalities.ct: "),
        ("folder.toml", "studies = '../*'", "leads out of the folder"),
        ("folder.toml", "studies = '/etc/*'", "leads out of the folder"),
        ("folder.toml", "studies = ''", "leads out of the folder"),
        ("studies.csv", "name\na\n", "studies.csv: lacks the columns study"),
        ("studies.csv", "study\na\na\n", "studies.csv, line 3: study 'a' is empty or stands there twice"),
        ("studies.csv", "study,split\na,dev\n", "studies.csv, line 2: split 'dev' (known: train, validation, test)"),
        ("studies.csv", "study,mass\na,yes\n", "studies.csv, line 2: mass is 'yes', expected 1, 0 or nothing"),
    ],
)
def test_a_wrong_table_or_pattern_is_one_line(tree, refusal, name, content, expected):
    tree.file("a/ct.nii.gz")
    tree.file(name, content)
    assert expected in refusal("folder", tree.root)


def test_two_masks_of_one_name_are_refused(tree, refusal):
    tree.file("a/ct.nii.gz")
    tree.file("a/liver_mask.nii.gz")
    tree.file("a/liver_seg.nii.gz")
    assert "liver_mask.nii.gz and liver_seg.nii.gz are both the mask 'liver'" in refusal("folder", tree.root)


def test_a_folder_without_anything_known(tree, refusal):
    tree.file("a/b.doc")
    assert "no folder * holds a file named by its modality" in refusal("folder", tree.root)
    assert "no folder * holds" in refusal("folder", tree.root / "nowhere")
