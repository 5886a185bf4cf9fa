"""Body outlines of planted discs: their masks, their Dice, and the rows of same and other bodies."""

import numpy as np
import pytest
import torch

from core.evaluate.images.outline import air_threshold, body_masks, comparable_outlines, dice, outline_rows
from core.types import LABEL_UNITS, DataSpec, Geometry
from tests.unit.evaluate.fake_images import SIDE, FakeTestSet, discs, spec

CT = spec("HU", (-1000.0, 1000.0))
MRI = spec()
RADII = np.linspace(5, 15, 24)


def test_air_ends_at_minus_700_hu_and_at_an_eighth_of_other_ranges():
    assert air_threshold(CT) == pytest.approx(-0.7)
    assert air_threshold(spec("HU", (-700.0, 300.0))) == pytest.approx(-1.0)
    assert air_threshold(MRI) == pytest.approx(-0.75)


def test_holes_are_filled_and_smaller_components_left_out():
    solid, hollow = discs([12]), discs([12], hole=6)
    hollow[0, 0, 0, :3] = 1.0  # a table beside the body
    assert np.array_equal(body_masks(hollow, MRI), body_masks(solid, MRI))
    assert body_masks(hollow, MRI).sum() == int((solid > -0.75).sum())


def test_an_empty_image_has_an_empty_outline():
    empty = torch.full((2, 1, SIDE, SIDE), -1.0)
    assert not body_masks(empty, CT).any()
    assert dice(body_masks(empty, CT), body_masks(empty, CT)).tolist() == [0.0, 0.0]


def test_volumes_have_outlines():
    volume = discs([12], hole=6)[:, :, None].repeat(1, 1, 5, 1, 1)
    volume[:, :, (0, -1)] = discs([12])[:, :, None]  # the hole is closed above and below
    assert body_masks(volume, MRI).sum() == 5 * int((discs([12]) > -0.75).sum())


def test_dice_in_closed_form():
    first, second = np.zeros((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    first[0, :2], second[0, 1:] = True, True  # 8 and 12 points, 4 of them in both
    assert dice(first, second).tolist() == [2 * 4 / 20]


def test_only_one_plane_in_units_with_air_is_compared():
    frontal = DataSpec(
        kind="grid",
        space=(SIDE, SIDE),
        default_geometry=Geometry(
            affine=[[10, 0, 0, 0], [0, 0, 1, 0], [0, 10, 0, 0], [0, 0, 0, 1]], shape=(SIDE, SIDE)
        ),
    )
    nowhere = DataSpec(kind="grid", space=(SIDE, SIDE))
    assert comparable_outlines(CT, MRI)
    assert not comparable_outlines(CT, frontal)
    assert not comparable_outlines(CT, nowhere)
    assert not comparable_outlines(CT, spec(LABEL_UNITS))


def rows_of(generated_mri, given=None):
    """Rows of a CT and an MRI of discs; what is generated as CT is the real one."""
    ct, mri = discs(RADII, inside=0.1), discs(RADII, inside=-0.5)
    test_set = FakeTestSet(
        {"ct": CT, "mri": MRI},
        {"ct": ct, "mri": mri},
        ways={"generated, no prompt": {"ct": ct, "mri": generated_mri}},
        pairs=[("ct", "mri")] if given else (),
        given=given,
    )
    return {row.what: row for row in outline_rows(test_set)}


def test_the_same_body_is_one_and_another_is_the_floor():
    found = rows_of(discs(RADII, inside=0.9))
    real, generated = found["ct and mri: outline Dice, real"], found["ct and mri: outline Dice, generated, no prompt"]
    assert real.value == generated.value == 1.0
    floor = float(real.reference.removeprefix("another patient "))
    assert 0.5 < floor < 0.98
    assert generated.key == "outline/generated, no prompt/ct+mri"

    other = rows_of(discs(np.roll(RADII, 1), inside=0.9))["ct and mri: outline Dice, generated, no prompt"]
    assert other.value == pytest.approx(floor, abs=0.005)
    assert other.low <= other.value <= other.high < 1


def test_an_output_is_compared_with_the_partner_that_was_given():
    given = {("ct", "mri"): discs(RADII), ("mri", "ct"): discs(np.roll(RADII, 1), inside=0.1)}
    found = rows_of(discs(RADII), given)
    assert found["ct and mri: outline Dice, mri from the given ct"].value == 1.0
    assert found["mri and ct: outline Dice, ct from the given mri"].value < 0.98
