"""Identifiers follow from how a file was made, and are valid DICOM."""

import uuid

import numpy as np
import pytest
from pydicom.uid import RE_VALID_UID

from core.io.dicom.new_instance import (
    derived_uid,
    frame_of_reference_uid,
    instance_uid,
    patient_id,
    series_uid,
    study_uid,
)
from core.io.geometry import centred
from core.types import Provenance, Sample


def told(**changes):
    return Provenance(**{"model": "m", "recipe": "r", "seed": 0, "index": 0, "versions": {"weights": "a"}, **changes})


def sample(value=0.0, modality="scan"):
    return Sample(modality=modality, data=np.full((1, 2, 2), value, "f4"), geometry=centred((2, 2), (1, 1), "PL"))


def test_ten_thousand_identifiers_are_valid_and_differ():
    found = {derived_uid("role", number) for number in range(10_000)}
    assert len(found) == 10_000
    for one in found:
        assert len(one) <= 44
        assert RE_VALID_UID.match(one)
        assert uuid.UUID(int=int(one.removeprefix("2.25."))).version == 8
        assert uuid.UUID(int=int(one.removeprefix("2.25."))).variant == uuid.RFC_4122


def test_words_do_not_run_together():
    assert derived_uid("ab", "c") != derived_uid("a", "bc")
    assert derived_uid("1") != derived_uid(1)


@pytest.mark.parametrize("what", [study_uid, frame_of_reference_uid, patient_id, lambda one: series_uid(sample(), one)])
def test_everything_in_the_provenance_counts(what):
    changes = [
        {},
        {"model": "n"},
        {"seed": 1},
        {"index": 1},
        {"prompts": {"text": "x"}},
        {"versions": {"weights": "b"}},
    ]
    assert len({what(told(**change)) for change in changes}) == len(changes)
    assert what(told()) == what(told())


@pytest.mark.parametrize("what", [study_uid, frame_of_reference_uid, patient_id])
def test_outputs_of_one_order_are_one_study_whatever_each_has_heard(what):
    first, second = ({"weights": "a", "order": order} for order in "xy")
    assert what(told(versions=first, prompts={"text": "x"})) == what(told(versions=first))
    assert what(told(versions=first)) != what(told(versions=second))


def test_a_series_counts_modality_values_and_place():
    one, moved = told(), centred((2, 2), (1, 2), "PL")
    others = [
        sample(),
        sample(1.0),
        sample(modality="other"),
        Sample(modality="scan", data=sample().data, geometry=moved),
    ]
    assert len({series_uid(other, one) for other in others}) == len(others)
    assert instance_uid("1.2", 1) != instance_uid("1.2", 2)
    assert study_uid(one) != frame_of_reference_uid(one)
