"""The kit itself: good parts pass every law, and each deliberately broken part fails exactly its own."""

import pytest
from defects import DEFECTS, GOOD_METRIC, TOKENS

from core.errors import UserError
from core.testing import check_modality, law_names, parametrize_checks
from core.testing.toy import TOY_GRID, TOY_VECTOR

GOOD = [TOY_GRID, TOY_VECTOR, TOKENS, GOOD_METRIC]


@parametrize_checks(TOY_GRID)
def test_toy_grid(check):
    check()


@parametrize_checks(TOY_VECTOR)
def test_toy_vector(check):
    check()


@parametrize_checks(TOKENS)
def test_tokens(check):
    check()


@parametrize_checks(GOOD_METRIC)
def test_metric(check):
    check()


def test_every_law_is_exercised_by_a_good_modality():
    """A law that every good modality skips would never be seen to pass."""
    passed = {outcome.law for modality in GOOD for outcome in check_modality(modality) if outcome.status == "passed"}
    assert passed == set(law_names())


def test_every_law_has_a_defect():
    assert {defect.law for defect in DEFECTS} == set(law_names())


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_exactly_the_broken_law_fails(defect):
    outcomes = check_modality(defect.modality)
    failed = {outcome.law: outcome.message for outcome in outcomes if outcome.status == "failed"}
    assert list(failed) == [defect.law], failed
    assert failed[defect.law], "the failure says nothing"
    assert not failed[defect.law].startswith(("TypeError", "AttributeError", "KeyError")), failed


def test_an_expected_failure_is_reported_with_its_reason():
    defect = next(defect for defect in DEFECTS if defect.law == "augment.left_stays_left")
    (outcome,) = check_modality(defect.modality, expected_failures={defect.law: "no sides here"}, only=[defect.law])
    assert outcome.status == "expected"
    assert outcome.message.startswith("no sides here (")


def test_expected_failures_are_strict():
    law = "augment.left_stays_left"
    (outcome,) = check_modality(TOY_GRID, expected_failures={law: "it flips"}, only=[law])
    assert outcome.status == "failed"
    assert "holds" in outcome.message


def test_an_unknown_law_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'reader\.never_writes'"):
        check_modality(TOY_GRID, only=["reader.never_write"])
    with pytest.raises(UserError, match=r"no law 'reader\.reads_fast'"):
        parametrize_checks(TOY_GRID, expected_failures={"reader.reads_fast": "slow disk"})


def test_an_unknown_preset_is_refused_with_the_choices():
    with pytest.raises(UserError, match=r"no preset of modality 'toy_grid' 'huge' \(known: tiny\)"):
        check_modality(TOY_GRID, "huge")


def test_laws_of_missing_parts_are_skipped_with_the_reason():
    outcomes = {outcome.law: outcome for outcome in check_modality(TOKENS)}
    assert outcomes["augment.seeds_differ"].status == "skipped"
    assert outcomes["augment.seeds_differ"].message == "no augment"
