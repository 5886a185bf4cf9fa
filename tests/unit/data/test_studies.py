"""Studies in memory: who may be seen, who says the same, and views that depend on nobody else."""

import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.contract.modality import Parts
from core.data.studies import Studies
from core.errors import UserError
from core.flow.patient_pools import split_by_patient
from core.io import TextReaderConfig
from core.preprocess import ByteTokenizerConfig
from core.testing.toy import TOY_GRID, TOY_VECTOR, scan, write_cohort
from core.types import DataSpec, Provenance, Record, Sample


@pytest.fixture
def studies(tmp_path):
    write_cohort(tmp_path, 10)
    records = list(scan(tmp_path))
    parts = {"toy_grid": TOY_GRID.parts("tiny"), "toy_vector": TOY_VECTOR.parts("tiny")}
    visible = [("toy_grid", "toy_vector")] * 5 + [("toy_grid",)] * 5
    return Studies(records, visible, parts)


def test_hidden_modalities_are_not_had(studies):
    assert studies.indices_with("toy_grid", "toy_vector") == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="no study to train on holds toy_grid and text"):
        studies.require_indices_with("toy_grid", "text")


def test_an_augmentation_depends_on_its_study_and_purpose_only(studies):
    both = studies.augmented_batch("toy_grid", [3, 7], 0, "view", 1).data
    alone = studies.augmented_batch("toy_grid", [7], 0, "view", 1).data
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(alone, studies.augmented_batch("toy_grid", [7], 0, "view", 2).data)
    assert not torch.equal(alone, studies.batch("toy_grid", [7]).data)


def test_a_shortened_text_depends_on_its_study_and_purpose_only():
    """Some of the sentences, as the tokenizer gives them; with probability 0 the text as it is."""
    tokenizer = ByteTokenizerConfig(length=64)
    report = "No effusion. The heart is large. Lungs clear."
    records = [Record(patient=str(index), study="1", files={}, texts={"words": report}) for index in range(40)]
    studies = Studies(records, [("words",)] * 40, {"words": Parts(data=tokenizer.spec, preprocess=tokenizer)})

    def texts(batch):
        rows = [
            Sample(modality="words", data=row[mask].numpy()) for row, mask in zip(batch.data, batch.mask, strict=True)
        ]
        return [str(tokenizer.build().invert(row).data) for row in rows]

    every = texts(studies.shortened_batch("words", range(40), 1.0, 0, "sentences", 1))
    assert all(text in report or text == "No effusion. Lungs clear." for text in every)
    assert len(set(every)) == 6, "one or two of three sentences"
    assert texts(studies.shortened_batch("words", [7], 1.0, 0, "sentences", 1)) == [every[7]]
    assert every != texts(studies.shortened_batch("words", range(40), 1.0, 0, "sentences", 2))
    assert set(texts(studies.shortened_batch("words", range(40), 0.0, 0, "sentences", 1))) == {report}
    half = texts(studies.shortened_batch("words", range(40), 0.5, 0, "sentences", 1))
    assert 10 < half.count(report) < 30


def studies_with(rows):
    """Studies that say these ids and have these labels."""
    records = [Record(patient=str(index), study="1", files={}, labels=labels) for index, (_, labels) in enumerate(rows)]
    studies = Studies(
        records, [("words",)] * len(rows), {"words": Parts(data=DataSpec(kind="tokens", space=(4,), vocabulary=9))}
    )
    for index, (ids, _) in enumerate(rows):
        studies._samples["words", index] = Sample(modality="words", data=np.array(ids))
    return studies


def test_equal_text_or_equal_labels_make_a_group():
    studies = studies_with([([1, 2], {}), ([1, 2], {"a": 1}), ([3], {"a": 1}), ([4], {}), ([1, 2, 0], {"a": 0})])
    expected = torch.eye(5, dtype=torch.bool)
    for first, other in [(0, 1), (1, 2)]:
        expected[first, other] = expected[other, first] = True
    assert torch.equal(studies.same_text_mask(["words"], range(5)), expected)


def test_labels_measure_how_similar_two_studies_are():
    rows = [([1], {"a": 1, "b": 1}), ([2], {"a": 1, "b": 0}), ([3], {"a": 0, "b": 0}), ([4], {"b": 0, "a": 0.0}),
            ([5], {}), ([5, 6], {})]  # fmt: skip
    half = 0.5**0.5
    expected = torch.eye(6)
    for first, other, value in [(0, 1, half), (2, 3, 1.0)]:
        expected[first, other] = expected[other, first] = value
    assert torch.allclose(studies_with(rows).similarity(["words"], range(6), [known for _, known in rows]), expected)
    same = studies_with([([5], {}), ([5], {})]).similarity(["words"], range(2), [{}, {"a": 1}])
    assert same[0, 1] == 1, "the same text"


def test_unknown_findings_make_no_two_studies_similar():
    """No pneumothorax in one, no effusion in the other: of each the other's finding is unknown."""
    findings = [{"a": 0}, {"b": 0}, {"normal": 1}, {"a": 0, "b": 0}]
    studies = studies_with([([index], {}) for index in range(4)])
    assert torch.equal(studies.similarity(["words"], range(4), findings), torch.eye(4))


def test_batches_hold_every_study_once_and_in_order(studies, monkeypatch):
    monkeypatch.setattr("core.data.studies.ROWS", 4)
    batches = [batch.data for batch in studies.batches("toy_grid", range(9))]
    assert [len(batch) for batch in batches] == [4, 4, 1]
    assert torch.equal(torch.cat(batches), studies.batch("toy_grid", range(9)).data)


def test_the_fingerprint_is_that_of_the_files(studies):
    first = studies.fingerprint("toy_grid")
    assert first == studies.fingerprint("toy_grid")
    assert first != studies.fingerprint("toy_vector")
    path = studies.records[9].files["toy_grid"][0]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert studies.fingerprint("toy_grid") != first
    fewer = Studies(studies.records[:9], studies.visible[:9], studies.parts)
    assert fewer.fingerprint("toy_grid") != first


def test_the_fingerprint_changes_with_the_middle_of_a_file(studies):
    first = studies.fingerprint("toy_grid")
    path = studies.records[9].files["toy_grid"][0]
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    assert studies.fingerprint("toy_grid") != first


def test_a_copy_has_the_fingerprint_of_its_files_without_their_times(studies, tmp_path):
    file = studies.records[0].files["toy_grid"][0]
    both = [studies.fingerprint("toy_grid", times=times) for times in (True, False)]
    os.utime(file, (1, 1))
    assert studies.fingerprint("toy_grid") != both[0]
    assert studies.fingerprint("toy_grid", times=False) == both[1]
    with file.open("ab") as end:
        end.write(b"x")
    assert studies.fingerprint("toy_grid", times=False) != both[1]


def test_generated_files_of_a_collected_data_set_are_a_single_warning(tmp_path):
    write_cohort(tmp_path, 3)
    records = [replace(record, dataset="mine") for record in scan(tmp_path)]
    for record in records[1:]:
        file = record.files["toy_grid"][0]
        sample = TOY_GRID.parts("tiny").reader.build().read(file)
        TOY_GRID.parts("tiny").writer.build().write(
            sample, file, Provenance(model="m", recipe="r", seed=0), overwrite=True
        )
    parts, visible = {"toy_grid": TOY_GRID.parts("tiny")}, [("toy_grid",)] * 3
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Studies(records, visible, parts, collected=["mine"]).batch("toy_grid", range(3))
        Studies(records, visible, parts, collected=["other"]).batch("toy_grid", range(3))
    (warning,) = caught
    assert "data set 'mine': the toy_grid of study" in str(warning.message)
    assert "says that it was generated" in str(warning.message)


def test_names_and_texts_that_are_no_unicode(studies):
    name = os.fsdecode(b"caf\xe9")
    records = [replace(record, patient=name + record.patient, study=name) for record in studies.records]
    (split,) = {record.split for record in split_by_patient(records[:1])}
    assert split in ("train", "validation", "test")
    assert Studies(records, studies.visible, studies.parts).fingerprint("toy_grid") != studies.fingerprint("toy_grid")
    first, other = (
        Studies([replace(records[0], texts={"toy_grid": text})], [("toy_grid",)], {}) for text in ("?", name)
    )
    assert first.fingerprint("toy_grid") != other.fingerprint("toy_grid")


def test_a_missing_part_is_named(studies):
    parts = replace(studies.parts["toy_grid"], reader=None)
    with pytest.raises(UserError, match="'toy_grid' has no part 'reader'"):
        Studies(studies.records, studies.visible, {"toy_grid": parts}).sample("toy_grid", 0)


def reports(texts, readers=None, length=64, **reader):
    """Studies whose texts stand in a table."""
    tokens = ByteTokenizerConfig(length=length)
    parts = Parts(data=tokens.spec, reader=TextReaderConfig(modality="words", **reader), preprocess=tokens)
    records = [
        Record(patient=str(index), study=f"s{index}", texts={"words": text}, dataset="d")
        for index, text in enumerate(texts)
    ]
    return Studies(records, [("words",)] * len(texts), {"words": parts}, readers)


def written(studies, index=0):
    part = studies.parts["words"].preprocess.build()
    return part.invert(studies.sample("words", index)).data


def test_a_text_of_a_table_has_its_sections_chosen_too():
    report = "Findings: Clear lungs. Impression: Normal."
    assert written(reports([report])) == report
    assert written(reports([report], sections=["impression"])) == "Normal."
    readers = {("d", "words"): TextReaderConfig(modality="words", sections=["findings"])}
    assert written(reports([report], readers, sections=["impression"])) == "Clear lungs."
    with pytest.raises(UserError, match="study 's0': has no history"):
        reports([report], sections=["history"]).sample("words", 0)


def test_cut_texts_are_counted_with_a_single_warning():
    studies = reports(["a" * 30, "b" * 70, "c" * 31, "d" * 80], length=32)
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        for index in range(4):
            studies.sample("words", index)
            studies.sample("words", index)
    (message,) = messages
    assert str(message.message).startswith("study 's1' is longer than the 32 ids of 'words': 40 are cut")
    assert "\n" not in str(message.message)
    assert studies.cut == {"words": 3}
