"""Reports to structured reports and back, ours and those of others."""

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from core.errors import UserError
from core.io import DicomReportWriterConfig, TextReaderConfig
from core.io.dicom.new_instance import save_instance
from core.io.dicom.report import HEADINGS, split_sections
from core.types import Sample

READER = TextReaderConfig(modality="words").build()
WRITER = DicomReportWriterConfig().build()
REPORT = "Findings: The heart is enlarged.\nA small left effusion. Impression: Cardiomegaly."


def contents(dataset):
    """``(title code, text)`` of every section."""
    sections = [item for item in dataset.ContentSequence if item.ValueType == "CONTAINER"]
    return [
        (item.ConceptNameCodeSequence[0].CodeValue, item.ContentSequence[0].TextValue.replace("\r\n", "\n"))
        for item in sections
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (REPORT, [("finding", "The heart is enlarged.\nA small left effusion."), ("impression", "Cardiomegaly.")]),
        ("No acute disease.", [("finding", "No acute disease.")]),
        ("IMPRESSION:\n 1. Nodule.", [("impression", "1. Nodule.")]),
        (
            "Chest PA. Finding: clear. Impressions: normal",
            [("finding", "Chest PA."), ("finding", "clear."), ("impression", "normal")],
        ),
        ("Findings: Impression: normal", [("impression", "normal")]),
        ("", []),
        (" \n", []),
        ("An impressionist: none.", [("finding", "An impressionist: none.")]),
    ],
)
def test_sections(text, expected):
    assert split_sections(text) == expected


def test_headings_are_those_of_the_standard():
    for name, section, text in (
        ("finding", codes.cid7001.Findings, codes.cid7002.Finding),
        ("impression", codes.cid7001.Impressions, codes.cid7002.Impression),
    ):
        found = HEADINGS[name]
        assert (found.section.value, found.section.scheme, found.section.meaning) == tuple(section)[:3]
        assert (found.text.value, found.text.scheme, found.text.meaning) == tuple(text)[:3]


def test_a_report_has_coded_sections(folder, provenance):
    WRITER.write(Sample(modality="words", data=REPORT), folder / "r.dcm", provenance)
    found = pydicom.dcmread(folder / "r.dcm")
    assert contents(found) == [
        ("59776-5", "The heart is enlarged.\nA small left effusion."),
        ("19005-8", "Cardiomegaly."),
    ]
    assert (found.Modality, found.CompletionFlag, found.VerificationFlag) == ("SR", "COMPLETE", "UNVERIFIED")
    assert found[0x0008, 0x001C].value == "YES"
    assert found.PatientName == "SYNTHETIC^MEDWEAVE"


@pytest.mark.parametrize(
    "text",
    [REPORT, "plain", " spaces at both ends  ", "a\\b^c=d~é胸部\n\n\ttab", "\x00\x01\x1b[0m", "", "Findings:", "\r\n"],
)
def test_what_is_read_back_is_what_was_written(folder, provenance, text):
    WRITER.write(Sample(modality="words", data=text), folder / "r.dcm", provenance)
    found = READER.read(folder / "r.dcm")
    assert found.data == text
    assert found.modality == "words"
    assert found.meta["synthetic"] is True
    assert found.meta["provenance"]["seed"] == 7


@pytest.mark.parametrize("name", ["1.2.840.77", "IM-0001", "r.ima", "r.txt"])
def test_a_report_is_read_whatever_its_name(folder, provenance, name):
    WRITER.write(Sample(modality="words", data=REPORT), folder / "r.dcm", provenance)
    (folder / "r.dcm").rename(folder / name)
    assert READER.read(folder / name).data == REPORT


def test_a_text_needs_its_suffix(folder):
    (folder / "1.2.840.77").write_text("Clear lungs. " * 20)
    with pytest.raises(UserError, match=r"77: this reader reads \.txt, \.dcm"):
        READER.read(folder / "1.2.840.77")


def test_control_characters_do_not_reach_the_sections(folder, provenance):
    WRITER.write(Sample(modality="words", data="a\x00b\x1bc\td"), folder / "r.dcm", provenance)
    assert contents(pydicom.dcmread(folder / "r.dcm")) == [("59776-5", "a�b�c\td")]


def test_the_same_order_gives_the_same_bytes(folder, provenance):
    for name in "ab":
        WRITER.write(Sample(modality="words", data=REPORT), folder / f"{name}.dcm", provenance)
    assert (folder / "a.dcm").read_bytes() == (folder / "b.dcm").read_bytes()


def test_it_belongs_to_the_study_of_its_images(folder, provenance):
    other = provenance.model_copy(update={"index": 1})
    for name, told in (("a", provenance), ("b", provenance), ("c", other)):
        WRITER.write(Sample(modality="words", data=f"report {name}"), folder / f"{name}.dcm", told)
    first, second, third = (pydicom.dcmread(folder / f"{name}.dcm") for name in "abc")
    assert first.StudyInstanceUID == second.StudyInstanceUID != third.StudyInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_reports_of_others_are_read_in_order(folder):
    path = get_testdata_file("reportsi.dcm", download=False)
    text = READER.read(path).data
    for phrase in text.splitlines():
        assert phrase.strip()
    texts = [str(one.value) for one in pydicom.dcmread(path).iterall() if one.keyword == "TextValue"]
    assert texts
    assert all(one.replace("\r\n", "\n") in text for one in texts)


def text_item(text):
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", text
    return item


def foreign(folder, items, sop="1.2.840.10008.5.1.4.1.1.88.11"):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop, "2.25.1"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ContentSequence = items
    save_instance(dataset, folder / "r.dcm")
    return folder / "r.dcm"


def nested(levels):
    item = text_item("deep")
    for _ in range(levels):
        outer = Dataset()
        outer.ValueType, outer.ContentSequence = "CONTAINER", [item]
        item = outer
    return item


@pytest.mark.parametrize(
    ("items", "sop", "expected"),
    [
        ([], "1.2.840.10008.5.1.4.1.1.88.11", "holds no text"),
        ([text_item(" ")], "1.2.840.10008.5.1.4.1.1.88.11", "holds no text"),
        ([text_item("x")], "1.2.840.10008.5.1.4.1.1.2", "is no structured report"),
        ([nested(40)], "1.2.840.10008.5.1.4.1.1.88.11", "levels deep"),
        ([text_item("x")] * 2001, "1.2.840.10008.5.1.4.1.1.88.11", "more than 2000 items"),
    ],
    ids=["empty", "blank", "image", "deep", "many"],
)
def test_what_is_no_report_is_refused(folder, items, sop, expected):
    path = foreign(folder, items, sop)
    with pytest.raises(UserError, match=expected) as error:
        READER.read(path)
    assert str(path) in str(error.value)


def test_half_a_report_is_seen_or_harmless(folder, provenance):
    WRITER.write(Sample(modality="words", data=REPORT), folder / "r.dcm", provenance)
    content = (folder / "r.dcm").read_bytes()
    refusals = []
    for end in range(1, len(content), 37):
        (folder / "half.dcm").write_bytes(content[:end])
        try:
            assert READER.read(folder / "half.dcm").data
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert all("half.dcm" in line for line in refusals)


def test_broken_bytes_are_a_user_error_or_a_text(folder, provenance):
    WRITER.write(Sample(modality="words", data=REPORT), folder / "r.dcm", provenance)
    content = (folder / "r.dcm").read_bytes()
    rng, refusals = np.random.default_rng(0), []
    for _ in range(300):
        mutated = bytearray(content)
        for place in rng.integers(132, len(content), size=rng.integers(1, 6)):
            mutated[place] = rng.integers(256)
        (folder / "m.dcm").write_bytes(mutated)
        try:
            assert isinstance(READER.read(folder / "m.dcm").data, str)
        except UserError as error:
            refusals.append(str(error))
    assert refusals
    assert all("m.dcm" in line for line in refusals)


def test_token_ids_are_no_report(folder, provenance):
    with pytest.raises(UserError, match="token ids are no text"):
        WRITER.write(Sample(modality="words", data=np.zeros(3, "i8")), folder / "r.dcm", provenance)
