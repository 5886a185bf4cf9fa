"""The kit itself: good parts pass every check, and each deliberately broken part fails exactly its own check."""

from dataclasses import replace

import numpy as np
import pytest

import core.nn
import core.testing
from core.contract.modality import PartConfig
from core.errors import UserError
from core.testing import CheckContext, CheckFailed, check_modality, check_names, parametrize_checks
from core.testing.samples import draw_off_grid
from core.testing.toy import TOY_GRID, TOY_VECTOR, draw_study, write_array
from core.types import Sample
from tests.contract.defects import DEFECTS, GOOD_METRIC, TOKENS

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


def test_every_check_is_exercised_by_a_good_modality():
    """A check that every good modality skips would never be seen to pass."""
    passed = {outcome.check for modality in GOOD for outcome in check_modality(modality) if outcome.status == "passed"}
    assert passed == set(check_names())


def test_every_check_has_a_defect():
    assert {defect.check for defect in DEFECTS} == set(check_names())


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_exactly_the_broken_check_fails(defect):
    outcomes = check_modality(defect.modality)
    failed = {outcome.check: outcome.message for outcome in outcomes if outcome.status == "failed"}
    assert list(failed) == [defect.check], failed
    assert failed[defect.check], "the failure says nothing"
    assert not failed[defect.check].startswith(("TypeError", "AttributeError", "KeyError")), failed


WRITERS = [defect for defect in DEFECTS if defect.check.startswith("writer.") and defect.modality.name == TOY_GRID.name]


@pytest.mark.parametrize("defect", WRITERS, ids=str)
def test_an_export_passes_the_checks_of_a_writer(defect):
    """What fails a check as a writer fails it as an export too, beside a writer that is sound."""
    exports = {"other": defect.modality.parts("tiny").writer}
    modality = replace(TOY_GRID, presets={"tiny": replace(TOY_GRID.parts("tiny"), exports=exports)})
    checks = [check for check in check_names() if check.startswith("writer.")]
    failed = {one.check: one.message for one in check_modality(modality, only=checks) if one.status == "failed"}
    assert list(failed) == [defect.check]
    assert failed[defect.check]


def test_an_export_is_declared_as_parts_are():
    exports = {"other": NothingConfig()}
    modality = replace(TOY_GRID, presets={"tiny": replace(TOY_GRID.parts("tiny"), exports=exports)})
    (outcome,) = check_modality(modality, only=["declaration.parts_keep_their_protocol"])
    assert outcome.message == "export 'other': object has no write, suffix, tolerance"


class NothingConfig(PartConfig):
    """Builds nothing that writes."""

    def build(self):
        return object()


def test_an_expected_failure_is_reported_with_its_reason():
    defect = next(defect for defect in DEFECTS if defect.check == "augment.left_stays_left")
    (outcome,) = check_modality(defect.modality, expected_failures={defect.check: "no sides here"}, only=[defect.check])
    assert outcome.status == "expected"
    assert outcome.message.startswith("no sides here (")


def test_expected_failures_are_strict():
    check = "augment.left_stays_left"
    (outcome,) = check_modality(TOY_GRID, expected_failures={check: "it flips"}, only=[check])
    assert outcome.status == "failed"
    assert "passes" in outcome.message


def test_an_unknown_check_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'reader\.never_writes'"):
        check_modality(TOY_GRID, only=["reader.never_write"])
    with pytest.raises(UserError, match=r"no check 'reader\.reads_fast'"):
        parametrize_checks(TOY_GRID, expected_failures={"reader.reads_fast": "slow disk"})


def test_former_names_are_understood_for_one_version():
    assert (core.testing.Bench, core.testing.LawBroken) == (CheckContext, CheckFailed)
    assert core.testing.law_names() == check_names()
    (outcome,) = check_modality(TOY_GRID, only=["preprocess.keeps_places"])
    assert (outcome.status, outcome.law) == ("passed", "preprocess.keeps_positions")
    assert core.nn.offer_monai_sites is core.nn.install_monai_sites


def test_an_unknown_preset_is_refused_with_the_choices():
    with pytest.raises(UserError, match=r"no preset of modality 'toy_grid' 'huge' \(known: tiny\)"):
        check_modality(TOY_GRID, "huge")


def test_checks_of_missing_parts_are_skipped_with_the_reason():
    outcomes = {outcome.check: outcome for outcome in check_modality(TOKENS)}
    assert outcomes["augment.seeds_differ"].status == "skipped"
    assert outcomes["augment.seeds_differ"].message == "no augment"


INPUT_ONLY = replace(TOY_GRID, presets={"tiny": replace(TOY_GRID.presets["tiny"], writer=None)})


@pytest.fixture
def example(tmp_path):
    _, picture = draw_study(np.random.default_rng(0))
    place = TOY_GRID.presets["tiny"].data.default_geometry
    write_array(tmp_path / "example.toy", Sample(modality="toy_grid", data=picture, geometry=place))
    return tmp_path / "example.toy"


def reader_checks(modality, files):
    checks = [check for check in check_names() if check.startswith("reader.")]
    return {outcome.check: outcome for outcome in check_modality(modality, files=files, only=checks)}


def test_a_reader_without_a_writer_is_tried_on_example_files(example):
    before = example.read_bytes()
    assert {outcome.status for outcome in reader_checks(INPUT_ONLY, [example]).values()} == {"passed"}
    assert example.read_bytes() == before
    assert [path.name for path in example.parent.iterdir()] == ["example.toy"]
    skipped = [outcome for outcome in reader_checks(INPUT_ONLY, []).values() if outcome.status == "skipped"]
    assert len(skipped) == 4
    assert {outcome.message for outcome in skipped} == {"no writer, and no example files were given"}


@pytest.mark.parametrize("defect", [one for one in DEFECTS if one.check.startswith("reader.")], ids=str)
def test_example_files_reveal_the_defects_that_written_files_reveal(defect, example):
    parts = replace(defect.modality.presets["tiny"], writer=None)
    outcomes = reader_checks(replace(defect.modality, presets={"tiny": parts}), [example])
    assert [check for check, outcome in outcomes.items() if outcome.status == "failed"] == [defect.check]


def test_a_wrong_example_is_reported(example):
    other = example.rename(example.with_suffix(".png"))
    assert reader_checks(TOY_GRID, [other])["reader.suffixes_name_its_files"].message.startswith(
        "example.png: the reader"
    )
    with pytest.raises(UserError, match=r"missing\.toy: no such file"):
        check_modality(TOY_GRID, files=[example.with_name("missing.toy")])


def test_samples_off_the_canonical_grid():
    """They differ from it in what they say, and fit the geometry that they bring."""
    spec = TOY_GRID.presets["tiny"].data
    found, place = draw_off_grid("toy_grid", spec), spec.default_geometry
    assert list(found) == ["flipped", "spaced", "larger"]
    for sample in found.values():
        assert sample.data.shape[1:] == sample.geometry.shape
        assert sample.geometry != place
    assert found["flipped"].geometry.orientation[0] != place.orientation[0]
    corners = [where.affine @ [index, 0, 0, 1] for where, index in ((found["flipped"].geometry, 7), (place, 0))]
    assert np.allclose(*corners), "the flipped grid covers the same field of view"
    assert found["spaced"].geometry.spacing_mm == (2.5, 1.6)
    assert found["larger"].geometry.shape == (10, 9)
    assert draw_off_grid("toy_vector", TOY_VECTOR.presets["tiny"].data) == {}
