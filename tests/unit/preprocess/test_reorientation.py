from itertools import permutations, product

import numpy as np
import pytest

from core.io import centred
from core.preprocess.spatial import reorient_to
from core.types import Geometry

ALL = ["".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)]


@pytest.mark.parametrize("orientation", ALL)
def test_every_orientation_reaches_spl_and_comes_back(orientation):
    shape = (3, 4, 5)
    data = np.random.default_rng(0).normal(size=(2, *shape))
    geometry = centred(shape, (1.0, 2.0, 3.0), orientation)
    turn = reorient_to(geometry, "SPL")
    turned, source = turn.apply(data), turn.geometry(geometry)
    assert source.orientation == "SPL"
    assert turned.shape == (2, *source.shape)
    assert np.array_equal(turn.undo(turned), data)
    # The same voxel at the same place in the world.
    for index in [(0, 0, 0), (2, 1, 4), (1, 3, 2)]:
        world = geometry.affine @ [*index, 1]
        there = np.linalg.inv(source.affine) @ world
        result = turned[(slice(None), *np.rint(there[:3]).astype(int))]
        assert np.array_equal(result, data[(slice(None), *index)])


def test_slightly_oblique_and_beyond():
    for degrees, good in [(20, True), (44, True), (80, True)]:
        angle = np.deg2rad(degrees)
        affine = np.eye(4)
        affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        turn = reorient_to(Geometry(affine=affine, shape=(3, 4, 5)), "RAS")
        assert (turn.axes == (0, 1, 2)) is (degrees < 45)
        assert good


def test_slices_turn_within_their_plane_only():
    turn = reorient_to(centred((4, 6), (1.0, 1.0), "RA"), "PL")
    assert turn.axes == (1, 0)
    assert turn.flips == (True, True)
    with pytest.raises(ValueError, match="its axes run AS, which is another plane than 'PL'"):
        reorient_to(centred((4, 6), (1.0, 1.0), "AS"), "PL")
