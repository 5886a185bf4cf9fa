"""The fixed map P between grids in patient coordinates, against closed forms and independent code (F7)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.guide.patient_grid import axis_matrix, from_patient_axes, patient_grid, resampled
from core.io.geometry import centred
from core.types import AxisCells, Geometry

FRONTAL = centred((64, 64), (6.0, 6.0), "IL", projection=True)
LATERAL = centred((64, 64), (6.0, 6.0), "IP", projection=True)
VOLUME = centred((32, 32, 32), (12.0, 12.0, 12.0), "SPL")
AXIAL = centred((64, 64), (6.0, 6.0), "PL")


def mapped(features: torch.Tensor, sender: Geometry, receiver: Geometry, space: tuple[int, ...]) -> torch.Tensor:
    """P on a grid of the receiver, ``batch width *space``."""
    theirs, ours = patient_grid(sender, tuple(features.shape[2:])), patient_grid(receiver, space)
    assert theirs is not None
    assert ours is not None
    return from_patient_axes(resampled(features, theirs, ours), ours, space)


def noise(*space: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, *space, generator=torch.Generator().manual_seed(seed))


def moved(geometry: Geometry, *millimetres: float) -> Geometry:
    affine = geometry.affine.copy()
    affine[:3, 3] += millimetres
    return Geometry(affine=affine, shape=geometry.shape, source_header=geometry.source_header)


@pytest.mark.parametrize(("geometry", "space"), [(FRONTAL, (8, 8)), (AXIAL, (8, 4)), (VOLUME, (4, 8, 2))])
def test_equal_grids_are_the_identity_bit_for_bit(geometry, space):
    features = noise(*space)
    assert torch.equal(mapped(features, geometry, geometry, space), features)


def test_a_finer_grid_is_interpolated_linearly():
    features = noise(8)[0, 0]
    there, here = AxisCells(8, -70.0, 20.0), AxisCells(15, -60.0, 8.5)
    matrix = axis_matrix(there, here)
    where = here.first_mm + here.step_mm * np.arange(here.num)
    expected = np.interp(where, -70.0 + 20.0 * np.arange(8), features.numpy())
    assert np.allclose((matrix @ features).numpy(), expected, atol=1e-5)


def test_a_coarser_grid_is_the_mean_under_a_triangle_as_wide_as_its_cells():
    matrix = axis_matrix(AxisCells(16, -75.0, 10.0), AxisCells(8, -70.0, 20.0))
    expected = torch.zeros(16)
    expected[5:9] = torch.tensor([0.25, 0.75, 0.75, 0.25]) / 2  # cell 3 has its centre between cells 6 and 7
    assert torch.allclose(matrix[3], expected)
    assert torch.allclose(matrix.sum(1), torch.ones(8))
    ramp = torch.arange(16.0)
    assert torch.allclose((matrix @ ramp)[1:-1], torch.arange(0.5, 16, 2)[1:-1]), "a linear field is kept"


def test_outside_the_field_of_view_it_is_exactly_0():
    small = centred((32, 32), (6.0, 6.0), "PL")  # half as wide
    update = mapped(torch.ones(1, 1, 8, 8), small, AXIAL, (16, 16))
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:12, 4:12] = True
    assert torch.allclose(update[0, 0][inside], torch.ones(64))
    assert not update[0, 0][~inside].any()


def test_a_shifted_sender_shifts_what_arrives_by_the_same_distance():
    features = noise(8, 8)
    there, cell = mapped(features, FRONTAL, FRONTAL, (8, 8)), 48.0
    here = mapped(features, moved(FRONTAL, 2 * cell, 0.0, -cell), FRONTAL, (8, 8))
    # R grows to the patient's right: two columns towards the first, and one row further down.
    assert torch.allclose(here[..., 1:, :-2], there[..., :-1, 2:])
    assert not here[..., 0, :].any()
    assert not here[..., -2:].any()
    assert torch.equal(mapped(features, moved(FRONTAL, 0.0, 90.0, 0.0), FRONTAL, (8, 8)), there), "A is unknown"


def test_a_lateral_view_tells_a_frontal_one_its_heights():
    features = noise(8, 8)
    update = mapped(features, LATERAL, FRONTAL, (8, 8))
    assert torch.allclose(update, features.mean(3, keepdim=True).expand(-1, -1, -1, 8), atol=1e-6)


def test_a_volume_is_averaged_along_the_beam():
    features = noise(8, 8, 8)
    frontal, lateral = (mapped(features, VOLUME, view, (8, 8)) for view in (FRONTAL, LATERAL))
    assert torch.allclose(frontal, features.mean(3).flip(2), atol=1e-6), "S P L: rows of the image run inferior"
    assert torch.allclose(lateral, features.mean(4).flip(2), atol=1e-6)


def test_a_projection_is_constant_along_the_beam():
    features = noise(8, 8)
    update = mapped(features, FRONTAL, VOLUME, (8, 8, 8))
    assert torch.allclose(update, features.flip(2)[:, :, :, None].expand(-1, -1, -1, 8, -1), atol=1e-6)


def test_a_slice_and_a_volume_meet_where_the_slice_lies():
    axial = moved(AXIAL, 0.0, 0.0, 60.0)
    features, volume = noise(8, 8), noise(8, 8, 8)
    update = mapped(features, axial, VOLUME, (8, 8, 8))
    cell = int((60.0 + 192) // 48)
    assert torch.allclose(update[:, :, cell], features, atol=1e-6)
    update[:, :, cell] = 0
    assert not update.any(), "nothing is known of other heights"
    heights = -168.0 + 48.0 * np.arange(8)
    below = int(np.searchsorted(heights, 60.0)) - 1
    part = (60.0 - heights[below]) / 48.0
    expected = (1 - part) * volume[:, :, below] + part * volume[:, :, below + 1]
    assert torch.allclose(mapped(volume, VOLUME, axial, (8, 8)), expected, atol=1e-5)


def test_a_slice_between_two_cells_reaches_both():
    update = mapped(torch.ones(1, 1, 8, 8), AXIAL, FRONTAL, (8, 8))
    assert update[0, 0, :, 0].tolist() == pytest.approx([0, 0, 0, 1, 1, 0, 0, 0])


def turned(geometry: Geometry, degrees: float) -> Geometry:
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Geometry(affine=turn @ moved(geometry, 0.0, 200.0, 0.0).affine, shape=geometry.shape)


def test_a_grid_that_is_turned_a_little_counts_as_straight_and_keeps_its_centre():
    grid = patient_grid(turned(VOLUME, 10.0), (8, 8, 8))
    assert grid.order == patient_grid(VOLUME, (8, 8, 8)).order
    centre = [cells.first_mm + cells.step_mm * 3.5 for cells in grid.cells]
    assert centre == pytest.approx([-200 * np.sin(np.radians(10)), 200 * np.cos(np.radians(10)), 0], abs=1e-4)
    assert patient_grid(turned(VOLUME, 20.0), (8, 8, 8)) is None


def test_what_has_no_position_has_no_grid():
    assert patient_grid(None, (8, 8)) is None
    assert patient_grid(FRONTAL, ()) is None
    assert patient_grid(FRONTAL, (8,)) is None
    assert patient_grid(centred((64, 64), (1.0, 1.0), "IL", unplaced=True), (8, 8)) is None
