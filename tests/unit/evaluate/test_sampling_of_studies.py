"""Studies that are compared with each other."""

import pytest

from core.evaluate.bootstrap import can_mismatch, interleave_patients


def test_batches_of_a_cohort_with_many_slices_of_one_patient_mix_patients():
    """67, 47 and 21 slices that stand together: a batch of neighbours would hold one patient alone."""
    patients = ["a"] * 67 + ["b"] * 47 + ["c"] * 21
    assert not can_mismatch(patients[:45])
    order = interleave_patients(range(135), patients, 64)
    assert sorted(order) == list(range(135))
    for start in range(0, 135, 45):
        batch = [patients[index] for index in order[start : start + 45]]
        assert {name: batch.count(name) for name in "abc"} == pytest.approx({"a": 67 / 3, "b": 47 / 3, "c": 7}, abs=1)


def test_one_batch_stays_in_order_and_nothing_is_nothing():
    assert interleave_patients([3, 5, 8], ["a", "b", "c"], 64) == [3, 5, 8]
    assert interleave_patients([], [], 64) == []
