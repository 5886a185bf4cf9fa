"""The kit itself: good parts pass every law, and each deliberately broken part fails exactly its own."""

from dataclasses import replace

import numpy as np
import pytest

from core.contract.modality import PartConfig
from core.errors import UserError
from core.testing import check_modality, law_names, parametrize_checks
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


WRITERS = [defect for defect in DEFECTS if defect.law.startswith("writer.") and defect.modality.name == TOY_GRID.name]


@pytest.mark.parametrize("defect", WRITERS, ids=str)
def test_an_export_keeps_the_laws_of_a_writer(defect):
    """What breaks a law as a writer breaks it as an export too, beside a writer that is sound."""
    exports = {"other": defect.modality.parts("tiny").writer}
    modality = replace(TOY_GRID, presets={"tiny": replace(TOY_GRID.parts("tiny"), exports=exports)})
    laws = [law for law in law_names() if law.startswith("writer.")]
    failed = {one.law: one.message for one in check_modality(modality, only=laws) if one.status == "failed"}
    assert list(failed) == [defect.law]
    assert failed[defect.law]


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


INPUT_ONLY = replace(TOY_GRID, presets={"tiny": replace(TOY_GRID.presets["tiny"], writer=None)})


@pytest.fixture
def example(tmp_path):
    _, picture = draw_study(np.random.default_rng(0))
    place = TOY_GRID.presets["tiny"].data.default_geometry
    write_array(tmp_path / "example.toy", Sample(modality="toy_grid", data=picture, geometry=place))
    return tmp_path / "example.toy"


def reader_laws(modality, files):
    laws = [law for law in law_names() if law.startswith("reader.")]
    return {outcome.law: outcome for outcome in check_modality(modality, files=files, only=laws)}


def test_a_reader_without_a_writer_is_tried_on_example_files(example):
    before = example.read_bytes()
    assert {outcome.status for outcome in reader_laws(INPUT_ONLY, [example]).values()} == {"passed"}
    assert example.read_bytes() == before
    assert [path.name for path in example.parent.iterdir()] == ["example.toy"]
    skipped = [outcome for outcome in reader_laws(INPUT_ONLY, []).values() if outcome.status == "skipped"]
    assert len(skipped) == 4
    assert {outcome.message for outcome in skipped} == {"no writer, and no example files were given"}


@pytest.mark.parametrize("defect", [one for one in DEFECTS if one.law.startswith("reader.")], ids=str)
def test_example_files_find_what_a_writer_would_have_found(defect, example):
    parts = replace(defect.modality.presets["tiny"], writer=None)
    outcomes = reader_laws(replace(defect.modality, presets={"tiny": parts}), [example])
    assert [law for law, outcome in outcomes.items() if outcome.status == "failed"] == [defect.law]


def test_a_wrong_example_is_said(example):
    other = example.rename(example.with_suffix(".png"))
    assert reader_laws(TOY_GRID, [other])["reader.suffixes_name_its_files"].message.startswith(
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
