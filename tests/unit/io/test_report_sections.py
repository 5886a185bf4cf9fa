"""Reports that nobody wrote about a patient, in the layouts of several houses."""

import pytest

from core.errors import UserError
from core.io import TextReaderConfig, TextWriterConfig
from core.io.report_sections import join_sections, split_sections
from core.types import Sample

CAPITALS = """EXAM: CHEST 2 VIEWS
HISTORY: Cough for two weeks.
COMPARISON: None.

FINDINGS:
The lungs are clear.
The heart is of normal size.

IMPRESSION:
No acute disease.
"""
MIXED = "Clinical Information: Fall.\r\nFindings: Clear lungs.\r\nConclusion: Normal chest.".replace("\r\n", "\n")
UNDERLINED = """Findings
--------
Small left effusion.

Impression
==========
1. Effusion.
2. No pneumothorax.
"""
# As MIMIC-CXR lays reports out: indented, with blanks of de-identification and a wet read above.
INDENTED = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___ year old man with fever  // pneumonia?

 TECHNIQUE:  Portable AP view.

 COMPARISON:  ___.

 FINDINGS:

 A line ends in the right atrium.  Lungs are clear.
 There is no effusion.

 IMPRESSION:

 No pneumonia.

 RECOMMENDATION(S):  None.
"""
SINGLE_LINE = (
    "Comparison: None. Indication: Pain. Findings: Lungs are clear. Heart normal. Impression: 1. Normal. 2. No change."
)
TEMPLATE = """FINDINGS:
LUNGS: Clear.
HEART: Normal size.
Bones: Old rib fracture.
IMPRESSION: Old fracture.
"""
MARKDOWN = "## Findings\nClear lungs.\n\n**Impression:** Normal."
GAP = "FINDINGS   Clear lungs.\nIMPRESSION   Normal."
PLAIN = "Clear lungs. The impression is that of a normal chest; these findings: none."


def texts(report, name):
    return [section.text for section in split_sections(report) if name in section.names]


@pytest.mark.parametrize(
    ("report", "findings", "impression"),
    [
        (CAPITALS, "The lungs are clear.\nThe heart is of normal size.", "No acute disease."),
        (MIXED, "Clear lungs.", "Normal chest."),
        (UNDERLINED, "Small left effusion.", "1. Effusion.\n2. No pneumothorax."),
        (INDENTED, "A line ends in the right atrium.  Lungs are clear.\n There is no effusion.", "No pneumonia."),
        (SINGLE_LINE, "Lungs are clear. Heart normal.", "1. Normal. 2. No change."),
        (TEMPLATE, "LUNGS: Clear.\nHEART: Normal size.\nBones: Old rib fracture.", "Old fracture."),
        (MARKDOWN, "Clear lungs.", "Normal."),
        (GAP, "Clear lungs.", "Normal."),
    ],
    ids=["capitals", "mixed", "underlined", "indented", "one line", "template", "markdown", "gap"],
)
def test_house_styles(report, findings, impression):
    assert texts(report, "findings") == [findings]
    assert texts(report, "impression") == [impression]


@pytest.mark.parametrize(
    ("report", "name", "text"),
    [
        (CAPITALS, "history", "Cough for two weeks."),
        (CAPITALS, "comparison", "None."),
        (MIXED, "history", "Fall."),
        (INDENTED, "indication", "___ year old man with fever  // pneumonia?"),
        (INDENTED, "technique", "Portable AP view."),
        (INDENTED, "comparison", "___."),
        (SINGLE_LINE, "indication", "Pain."),
    ],
)
def test_the_other_sections(report, name, text):
    assert texts(report, name) == [text]


def test_a_text_without_headings_is_a_section_without_a_name():
    (section,) = split_sections(PLAIN)
    assert section.text == PLAIN
    assert not section.names


@pytest.mark.parametrize(
    "sentence",
    [
        "We told the ward of the findings: effusion and line.",
        "No change in Findings: as before.",
        "The nodule was called to the\nfindings: board at noon.",
        "In summary: clear lungs.",
        "Please see the Impression: It is a normal chest.",
        "Impression of a rib on the lung.",
        "Comparison with the prior film shows no change.",
        "History of cough. Technique was poor.",
    ],
)
def test_a_word_in_a_sentence_is_no_heading(sentence):
    report = f"Findings: Clear lungs. {sentence}"
    assert texts(report, "findings") == [f"Clear lungs. {sentence}"]


@pytest.mark.parametrize("impression", ["Normal chest.", "1. Normal chest."])
def test_a_forgotten_full_stop_hides_no_heading(impression):
    """18 of 2,248 reports of Open-i end their findings without one."""
    report = f"Findings: Lungs are clear. Bones unremarkable Impression: {impression}"
    assert texts(report, "findings") == ["Lungs are clear. Bones unremarkable"]
    assert texts(report, "impression") == [impression]


def test_repeated_headings_are_joined_in_order():
    report = "WET READ: Effusion?\nIMPRESSION: Effusion.\nFINDINGS: Fluid.\nADDENDUM:\nIMPRESSION: Small effusion."
    assert join_sections(report, ["impression"]) == "Effusion.\nSmall effusion."
    assert join_sections(report, ["findings"]) == "Fluid."


def test_the_order_is_that_of_the_wish_and_titles_tell_several_apart():
    assert join_sections(MIXED, ["impression", "findings"]) == "Impression: Normal chest.\nFindings: Clear lungs."
    assert join_sections("Findings: Clear.", ["findings", "impression"]) == "Findings: Clear."


@pytest.mark.parametrize("title", ["FINDINGS AND IMPRESSION", "Findings/Impression", "Findings / Impression"])
def test_a_section_of_two_names_is_read_once(title):
    report = f"{title}: Clear lungs."
    assert join_sections(report, ["impression"]) == "Clear lungs."
    assert join_sections(report, ["findings", "impression"]) == "Findings: Clear lungs."


def test_what_a_reader_keeps_can_be_read_again():
    once = join_sections(INDENTED, ["findings", "impression"])
    assert join_sections(once, ["findings", "impression"]) == once


def test_an_empty_section_is_none():
    assert join_sections("FINDINGS:\n\nIMPRESSION: Normal.", ["findings"]) is None
    assert join_sections("", ["findings"]) is None


def reader(**settings):
    return TextReaderConfig(modality="m", **settings).build()


def test_the_whole_text_without_a_choice(tmp_path):
    (tmp_path / "a.txt").write_text(INDENTED)
    assert reader().read(tmp_path / "a.txt").data == INDENTED.removesuffix("\n")


def test_a_reader_returns_the_configured_sections(tmp_path):
    (tmp_path / "a.txt").write_text(INDENTED)
    assert reader(sections=["impression"]).read(tmp_path / "a.txt").data == "No pneumonia."


def test_a_report_without_the_section_is_refused_in_a_single_line(tmp_path):
    (tmp_path / "a.txt").write_text("INDICATION: Pain.\nFINDINGS: Clear.")
    with pytest.raises(UserError) as caught:
        reader(sections=["impression"]).read(tmp_path / "a.txt")
    assert str(caught.value) == (
        f"{tmp_path / 'a.txt'}: has no impression (it has findings, indication); leave it out, name its heading in the"
        " reader's titles, or set missing = 'whole'"
    )


def test_or_it_is_read_whole(tmp_path):
    (tmp_path / "a.txt").write_text(PLAIN)
    assert reader(sections=["impression"], missing="whole").read(tmp_path / "a.txt").data == PLAIN
    with pytest.raises(UserError, match="no known heading"):
        reader(sections=["impression"]).read(tmp_path / "a.txt")


def test_a_generated_text_is_chosen_from_but_never_refused(tmp_path, provenance):
    for name, text in (("a", MIXED), ("b", PLAIN)):
        sample = Sample(modality="m", data=text)
        TextWriterConfig().build().write(sample, tmp_path / f"{name}.txt", provenance)
    part = reader(sections=["impression"])
    assert part.read(tmp_path / "a.txt").data == "Normal chest."
    assert part.read(tmp_path / "b.txt").data == PLAIN


def test_a_house_may_name_its_headings():
    titles = {"findings": ("PA and lateral chest (2 views)", "Befund")}
    report = "PA AND LATERAL CHEST (2 VIEWS): Clear.\nBEFUND: Frei."
    assert reader(sections=["findings"], titles=titles).select_sections(report, "row 1") == "Clear.\nFrei."


@pytest.mark.parametrize(
    "wrong", [{"sections": ["summary"]}, {"sections": ["findings"] * 2}, {"titles": {"findings": [" "]}}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"sections|twice|empty"):
        TextReaderConfig(modality="m", **wrong)


@pytest.mark.parametrize("piece", ["FINDINGS ", "Findings:", "* # _", " \n", "- ", "(", "impression \n---\n"])
def test_a_megabyte_of_headings_takes_no_minutes(piece):
    report = piece * (200_000 // len(piece))
    import time

    start = time.process_time()
    split_sections(report)
    assert time.process_time() - start < 3
