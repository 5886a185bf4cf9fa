"""The findings of studies: labels, what reports mention where there are none, and details of what is present."""

import pytest
import torch

from core.align.findings import FindingProbe, StudyFindings
from core.contract.modality import Parts
from core.data.studies import Studies
from core.errors import UserError
from core.preprocess import ByteTokenizerConfig
from core.types import Record

BYTES = ByteTokenizerConfig(length=64)
SIDES = ("effusion/left", "effusion/right")


def findings(text):
    """Of two findings those that are named; a third is named by no text."""
    return {name: int(f"no {name}" not in text) for name in ("effusion", "edema") if name in text}


def details(text):
    sides = {"left", "right"} & set(text.split())
    return {f"effusion/{side}": int(side in sides) for side in ("left", "right")} if sides else {}


def study_findings(*texts, labels=(), texts_of_the_round=("report",), seen=("report", "image"), dataset="d", pool=None):
    """Studies with a text each, and with labels as far as there are some."""
    records = [
        Record(
            patient=str(index), study="s", texts={"report": text}, files={"image": ("x",)}, dataset=dataset, pool=pool,
            labels=labels[index] if index < len(labels) else {},
        )
        for index, text in enumerate(texts)
    ]  # fmt: skip
    studies = Studies(records, [seen] * len(texts), {"report": Parts(data=BYTES.spec, preprocess=BYTES)})
    return StudyFindings(studies, texts_of_the_round, {"d": findings}, {"d": details})


def test_labels_are_believed_rather_than_texts():
    labelled = study_findings("effusion", "no effusion", labels=({"effusion": 0, "rare": 1},))
    assert labelled.known(0, ("effusion", "rare")) == {"effusion": 0, "rare": 1}
    assert labelled.known(1, ("effusion", "rare")) == {"effusion": 0}


def test_what_a_text_does_not_mention_is_absent_as_far_as_its_reader_knows_it():
    """Of what its reader never tells nothing is known, nor of a text that tells nothing."""
    names = ("effusion", "edema", "no_finding")
    read = study_findings("effusion", "no edema", "clear")
    assert read.known(0, names) == {"effusion": 1, "edema": 0}
    assert read.known(1, names) == {"effusion": 0, "edema": 0}
    assert read.known(2, names) == {}


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("left effusion", {}, {"effusion/left": 1, "effusion/right": 0}),
        ("left effusion", {"effusion": 1}, {"effusion/left": 1, "effusion/right": 0}),
        ("effusion", {"effusion": 1}, {}),
        ("edema on the left", {"effusion": 0}, {"effusion/left": 0, "effusion/right": 0}),
        ("no effusion", {}, {"effusion/left": 0, "effusion/right": 0}),
    ],
    ids=["read", "read beside a label", "not said", "absent by its label", "absent by its text"],
)
def test_a_finding_has_the_details_that_its_text_tells_and_an_absent_one_has_none(text, labels, expected):
    assert study_findings(text, labels=(labels,)).known(0, SIDES) == expected


@pytest.mark.parametrize("hidden", [{"texts_of_the_round": ()}, {"seen": ("image",)}], ids=["round", "study"])
def test_texts_that_the_round_does_not_see_are_not_read(hidden):
    blind = study_findings("left effusion", "right effusion", labels=({"effusion": 1}, {"effusion": 0}), **hidden)
    assert blind.known(0, ("effusion", *SIDES)) == {"effusion": 1}
    assert blind.differing([0, 1]) == ("effusion",)


def test_only_findings_that_differ_are_probed():
    """Edema is everywhere here; all effusions that have a side are on the left until one is on the right."""
    left = study_findings("left effusion and edema", "edema, no effusion", "left effusion, edema")
    assert left.differing([0, 1, 2]) == ("effusion",)
    assert study_findings("left effusion", "right effusion").differing([0, 1]) == SIDES


@pytest.mark.parametrize(
    ("where", "expected"),
    [({}, (1, 2)), ({"dataset": "another"}, ()), ({"pool": 2}, ())],
    ids=["with an extractor", "without an extractor", "of another round"],
)
def test_studies_without_a_partner_teach_where_they_can_be_read(where, expected):
    studies = study_findings("effusion", "no effusion", "edema", **where)
    assert studies.unpaired("image", [0]) == expected
    assert studies.unpaired("unseen", [0]) == ()


def test_a_detail_that_names_no_finding_is_refused():
    wrong = study_findings("left effusion")
    wrong._detail_extractors = {"d": lambda text: {"left": 1}}
    with pytest.raises(UserError, match="'d': details_of returns 'left', which names no finding"):
        wrong.all_of(0)


def test_the_probe_of_every_round_starts_elsewhere():
    """At common directions, encoders of different rounds would agree by the draw of their probes."""
    first, again, second = (
        FindingProbe(("found",), None, 4, seed=0, round_name=name).read.weight
        for name in ("1 text-xray", "1 text-xray", "2 text-ct")
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)
