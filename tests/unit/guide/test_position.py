"""Positions of tokens: what each kind of geometry knows, and where the cells lie (F2)."""

import numpy as np
import pytest
import torch

from core.errors import UserError
from core.guide.positions import NUM_FEATURES, grid_positions, known_axes, position_features, spacing_mm, waves
from core.io.geometry import centred

FRONTAL = centred((64, 64), (6.0, 6.0), "IL")
LATERAL = centred((64, 64), (6.0, 6.0), "IP")
AXIAL = centred((64, 64), (6.0, 6.0), "PL")
VOLUME = centred((32, 32, 32), (12.0, 12.0, 12.0), "SPL")


@pytest.mark.parametrize(
    ("geometry", "axes"),
    [
        (FRONTAL, (True, False, True)),
        (LATERAL, (False, True, True)),
        (AXIAL, (True, True, True)),
        (VOLUME, (True, True, True)),
        (None, (False, False, False)),
    ],
    ids=["frontal", "lateral", "axial slice", "volume", "none"],
)
def test_axes_that_a_modality_knows(geometry, axes):
    assert known_axes(geometry) == axes


def test_a_geometry_may_say_what_it_is():
    coronal = centred((64, 64), (6.0, 6.0), "IL", projection=False)
    assert known_axes(coronal) == (True, True, True)
    assert known_axes(centred((64, 64), (6.0, 6.0), "PL", projection=True)) == (True, True, False)


@pytest.mark.parametrize("geometry", [FRONTAL, LATERAL, AXIAL, VOLUME], ids=["frontal", "lateral", "axial", "volume"])
@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_cells_lie_where_the_geometry_says(geometry, side):
    grid = (side,) * len(geometry.shape)
    position, axes = grid_positions(geometry, grid)
    assert position.shape == axes.shape == (side ** len(grid), 3)
    known = torch.tensor(known_axes(geometry))
    assert (position[:, ~known] == 0).all(), "a position is 0 along an axis that is not known"
    assert torch.allclose(position.mean(0), torch.zeros(3), atol=1e-4), "a centred field has its cells around 0"
    # the centre of a cell is the mean of the centres of its pixels
    pixels = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1).reshape(-1, len(grid))
    world = pixels @ geometry.affine[:3, : len(grid)].T + geometry.affine[:3, 3]
    edges = [n // side for n in geometry.shape]
    number = np.ravel_multi_index(tuple((pixels // edges).T), grid)
    means = np.stack([world[number == cell].mean(0) for cell in range(side ** len(grid))])
    assert np.allclose(position[:, known], means[:, known.numpy()], atol=1e-3)


def test_the_views_of_one_body_agree_on_what_both_know():
    """Row 1 of a frontal and of a lateral view are at one height; the frontal's last column is the patient's left."""
    frontal, lateral = grid_positions(FRONTAL, (4, 4))[0], grid_positions(LATERAL, (4, 4))[0]
    assert torch.equal(frontal[4:8, 2], lateral[4:8, 2])
    assert frontal[0, 2] > 0 > frontal[-1, 2], "the first row is superior"
    assert frontal[0, 0] > 0 > frontal[3, 0], "the first column is the patient's right"
    assert lateral[0, 1] > 0 > lateral[3, 1], "the first column is anterior"


def test_spacing_ignores_unknown_axes():
    assert spacing_mm(grid_positions(FRONTAL, (8, 8))[0]) == pytest.approx(48.0)
    assert spacing_mm(grid_positions(VOLUME, (4, 4, 4))[0]) == pytest.approx(96.0)
    assert spacing_mm(torch.zeros(4, 3)) == 0
    assert spacing_mm(torch.zeros(1, 3)) == 0


def test_unknown_axes_tell_nothing():
    position, axes = torch.randn(5, 3) * 100, torch.tensor([True, False, True]).expand(5, 3)
    other = position.clone()
    other[:, 1] += 37
    first, second = position_features(position, axes), position_features(other, axes)
    assert first.shape == (5, NUM_FEATURES)
    assert torch.equal(first, second)
    assert (position_features(position, torch.zeros(5, 3, dtype=torch.bool)) == 0).all()


def test_waves_depend_on_the_distance_only():
    axes = torch.ones(2, 3, dtype=torch.bool)
    pair = torch.tensor([[10.0, -20.0, 30.0], [25.0, 5.0, -40.0]])
    products = [
        (waves(moved, axes).flatten(1)[0] * waves(moved, axes).flatten(1)[1]).sum()
        for moved in (pair, pair + torch.tensor([100.0, -3.0, 7.0]))
    ]
    assert torch.allclose(*products, atol=1e-3)


def test_a_geometry_of_other_axes_is_refused():
    with pytest.raises(UserError, match="a geometry of shape"):
        grid_positions(FRONTAL, (4, 4, 4))
