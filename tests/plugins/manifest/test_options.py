"""A table in other words: what its columns mean, and captions made of labels."""

import csv

import pytest

from core.api import UserError
from plugins.manifest.datasets import MANIFEST

COLUMNS = ["study_id", "modality", "sequence", "file", "report", "labels"]


@pytest.fixture
def records(tmp_path):
    def scan(rows, **options):
        with (tmp_path / "manifest.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        return list(MANIFEST.scan(tmp_path, **options))

    return scan


def test_without_options_nothing_is_made_up(records):
    (record,) = records([["a", "smear", "", "a.png", "", "RBC:3|WBC:1"]])
    assert record.texts == {}
    assert record.labels == {"RBC:3": 1, "WBC:1": 1}


def test_a_label_that_says_that_there_is_none_is_none(records):
    rows = [["a", "smear", "", "a.png", "", "No Indexing"], ["b", "smear", "", "b.png", "", "Opacity|No Indexing"]]
    assert [record.labels for record in records(rows, uncoded=["No Indexing"])] == [{}, {"Opacity": 1}]


def test_words_of_the_table_become_modalities_and_some_are_left_out(records):
    rows = [["a", "mri", kind, f"{kind}.nii", "", ""] for kind in ("T1", "T2")] + [["a", "label", "M", "m.nii", "", ""]]
    names = {"mri/T1": "mri_t1", "label/M": ""}
    (record,) = records(rows, columns=["modality", "sequence"], modalities=names)
    assert list(record.files) == ["mri_t1", "mri/T2"]


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ("nv", "Dermoscopy: melanocytic nevus."),
        ("nv|other", "Dermoscopy: melanocytic nevus and other."),
        ("a| nv |b", "Dermoscopy: a, melanocytic nevus and b."),
        ("", "A skin lesion."),
    ],
)
def test_a_caption_from_labels(records, labels, text):
    options = {
        "caption": "Dermoscopy: {labels}.",
        "names": {"nv": "melanocytic nevus"},
        "unlabelled": "A skin lesion.",
    }
    (record,) = records([["a", "m", "", "a.png", "", labels]], **options)
    assert record.texts == {"text": text}
    assert set(record.labels) == {name.strip() for name in labels.split("|") if name}


def test_a_report_stays_as_it_is(records):
    (record,) = records([["a", "m", "", "a.png", "Clear lungs.", "mass"]], caption="Shows {labels}.")
    assert record.texts == {"text": "Clear lungs."}


def test_counts(records):
    (record,) = records([["a", "m", "", "a.png", "", "RBC:3|WBC:0|plain"]], caption="Smear: {labels}.", counts=True)
    assert record.texts == {"text": "Smear: RBC (3) and plain."}
    assert record.labels == {"RBC": 1, "plain": 1}


def test_a_caption_for_each_modality(records):
    rows = [
        ["a", "oct", "", "a.png", "", "x"],
        ["b", "slide", "", "b.png", "", "y"],
        ["c", "film", "", "c.png", "", "z"],
    ]
    studies = records(rows, caption={"oct": "OCT: {labels}.", "slide": "Slide: {labels}."})
    assert [record.texts.get("text") for record in studies] == ["OCT: x.", "Slide: y.", None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"caption": "No place."}, r"options\.caption: a caption says where its labels go: \{labels\}"),
        ({"captoin": "x"}, r"options\.captoin: .*\(known: columns, modalities, caption"),
        ({"columns": ["plane"]}, r"manifest\.csv: lacks the columns plane, which options\.columns names"),
        ({"counts": "perhaps"}, r"options\.counts: "),
    ],
)
def test_wrong_options_are_one_line(records, options, message):
    with pytest.raises(UserError, match=message) as caught:
        records([["a", "m", "", "a.png", "", "x"]], **options)
    assert "\n" not in str(caught.value)
