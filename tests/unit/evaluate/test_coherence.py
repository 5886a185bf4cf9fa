"""Cosine, Hamming distance, ways of generating and mismatched patients, by hand and in simulation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import core  # noqa: F401
from core.errors import UserError
from core.evaluate.bootstrap import mismatched_patients
from core.evaluate.coherence import coherence, cosines, hamming

NAN = float("nan")


def test_cosines_by_hand():
    first = torch.tensor([[1.0, 0.0], [0.6, 0.8], [2.0, 0.0]])
    second = torch.tensor([[0.0, 1.0], [0.6, 0.8], [-3.0, 0.0]])
    assert cosines(first, second) == pytest.approx([0.0, 1.0, -1.0])
    with pytest.raises(ValueError, match="one shape"):
        cosines(first, second[:1])


def test_hamming_leaves_out_what_is_unknown():
    first = [[1, 0, 1, NAN], [1, 1, 0, 0], [NAN, NAN, 1, 0]]
    second = [[1, 1, NAN, 0], [1, 1, 0, 0], [1, 0, NAN, NAN]]
    found = hamming(first, second)
    assert found[:2].tolist() == [0.5, 0.0]
    assert np.isnan(found[2])
    with pytest.raises(ValueError, match="of one shape"):
        hamming(first, second[:2])


def pair(num: int, shared: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of two outputs that share this much of a patient, and all a little of the prompt."""
    draws = torch.Generator().manual_seed(seed)
    patient, first, second = torch.randn(3, num, 16, generator=draws)
    return F.normalize(shared * patient + first + 0.5, dim=1), F.normalize(shared * patient + second + 0.5, dim=1)


def test_joint_against_independent_and_shuffled():
    joint, independent = pair(150, 1.0, 0), pair(150, 0.0, 1)
    others = {"independent": cosines(*independent), "shuffled": cosines(joint[0], joint[1][mismatched_patients(150)])}
    found = coherence(cosines(*joint), others)
    assert found.by_way["independent"].excludes_zero, "the prompt that all share gives coherence for free"
    for name in others:
        assert found.joint_minus[name].low > 0.1
        difference = found.by_way["joint"].value - found.by_way[name].value
        assert found.joint_minus[name].value == pytest.approx(difference)


def test_no_coupling_shows_no_difference():
    found = coherence(cosines(*pair(150, 0.0, 0)), {"independent": cosines(*pair(150, 0.0, 1))})
    assert not found.joint_minus["independent"].excludes_zero


def test_differences_are_paired():
    """What varies from patient to patient, and is shared by both ways, does not widen the difference."""
    patient = np.random.default_rng(0).normal(size=100)
    found = coherence(patient + 0.1, {"independent": patient})
    assert found.joint_minus["independent"].low == pytest.approx(0.1)
    assert found.by_way["joint"].high - found.by_way["joint"].low > 0.3


def test_a_sample_unknown_in_one_way_is_left_out_of_its_difference():
    found = coherence([0.0, 0.5, 1.0], {"independent": [0.5, NAN, 0.5]})
    assert found.joint_minus["independent"].value == 0.0
    assert found.by_way["independent"].value == 0.5
    with pytest.raises(ValueError, match="same samples"):
        coherence([0.0, 0.5], {"independent": [0.5]})


def test_mismatched_patients_are_others_and_each_is_used_once():
    assert mismatched_patients(4) == [3, 0, 1, 2]
    for seed in range(20):
        patients = np.random.default_rng(seed).integers(0, 6, 40).tolist()
        found = mismatched_patients(40, patients)
        assert sorted(found) == list(range(40))
        assert all(patients[index] != patients[own] for own, index in enumerate(found))
    assert mismatched_patients(4, ["a", "a", "b", "b"]) == [2, 3, 0, 1]


def test_one_patient_cannot_be_mismatched():
    with pytest.raises(UserError, match="3 of 4 samples are of one patient"):
        mismatched_patients(4, ["a", "a", "a", "b"])
    with pytest.raises(UserError, match="1 of 1 samples"):
        mismatched_patients(1)
