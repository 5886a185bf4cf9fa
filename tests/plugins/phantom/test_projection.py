"""The projection against the closed form of a sphere: chord length times attenuation."""

import numpy as np
import pytest

from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.shapes import ellipsoid
from plugins.phantom.imaging.projection import WATER_PER_MM, Beam, attenuation, project
from plugins.phantom.imaging.radiograph import View

RADIUS = 60.0


def chords(beam, u, v, centre):
    """Length of every ray inside the sphere, by geometry alone."""
    source = np.zeros(3)
    source[beam.axis], source[[1 - beam.axis, 2]] = beam.source_mm, beam.centre_mm
    ends = np.zeros((len(u), len(v), 3))
    ends[..., beam.axis] = beam.detector_mm
    ends[..., 1 - beam.axis], ends[..., 2] = u[:, None], v[None, :]
    ray = ends - source
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    to_centre = np.asarray(centre) - source
    along = ray @ to_centre
    distance2 = to_centre @ to_centre - along**2
    return 2 * np.sqrt(np.clip(RADIUS**2 - distance2, 0, None))


@pytest.mark.parametrize("name", ["frontal", "lateral"])
@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (47.0, -31.0, 62.0)])
def test_sphere_of_water(name, centre):
    grid, beam = Grid(), View(name, 400.0, (5.0, -8.0)).beam
    box, fraction = ellipsoid(grid, centre, (RADIUS,) * 3)
    volume = np.full(grid.shape, -1000.0, np.float32)
    volume[box] += 1000 * fraction
    u = v = np.linspace(-170, 170, 85)
    integrals = project(attenuation(volume), grid, beam, u, v)
    wanted = WATER_PER_MM * chords(beam, u, v, centre)
    largest = WATER_PER_MM * 2 * RADIUS
    # 2.3 at the centre; rays that graze the edge see the 4 mm voxels.
    inner = wanted > 0.5 * largest
    assert inner.sum() > 300
    assert np.abs(integrals - wanted)[inner].max() < 0.012 * largest
    assert np.abs(integrals - wanted)[inner].mean() < 0.003 * largest
    assert np.abs(integrals - wanted).max() < 0.12 * largest
    assert integrals.sum() == pytest.approx(wanted.sum(), rel=0.003)


def test_the_error_falls_with_the_voxel():
    errors = []
    for spacing in (8.0, 4.0, 2.0):
        grid, beam = Grid((int(160 / spacing),) * 3, spacing), Beam(1, -1600.0, 190.0)
        box, fraction = ellipsoid(grid, (3.0, 5.0, -4.0), (RADIUS,) * 3)
        mu = np.zeros(grid.shape, np.float32)
        mu[box] = WATER_PER_MM * fraction
        u = np.linspace(-80, 80, 41)
        errors.append(
            np.abs(project(mu, grid, beam, u, u) - WATER_PER_MM * chords(beam, u, u, (3.0, 5.0, -4.0))).mean()
        )
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]


def test_a_uniform_slab_is_its_thickness_times_the_slant():
    grid, beam = Grid((40, 30, 40), 4.0), Beam(1, -1600.0, 190.0)
    u = np.array([-60.0, 0.0, 45.0])
    integrals = project(np.full(grid.shape, 0.02, np.float32), grid, beam, u, u)
    slant = np.sqrt(1 + (u[:, None] ** 2 + u[None, :] ** 2) / 1790**2)
    np.testing.assert_allclose(integrals, 0.02 * 30 * 4.0 * slant, rtol=1e-5)


def test_hounsfield_units_are_solved_for_attenuation():
    np.testing.assert_allclose(
        attenuation(np.array([-1000.0, 0, 1000])), [0, WATER_PER_MM, 2 * WATER_PER_MM], rtol=1e-6
    )
    assert attenuation(np.array([-1024.0])) == 0


def test_magnification_is_that_of_the_geometry():
    assert View("frontal", 400, (0, 0)).beam.magnification == pytest.approx(1800 / 1610)
    grid, beam = Grid((64, 64, 64), 4.0), View("frontal", 400, (0, 0)).beam
    mu = np.zeros(grid.shape, np.float32)
    mu[grid.index(0, 80), grid.index(1, 0), grid.index(2, 0)] = 1
    u = np.linspace(60, 110, 101)
    profile = project(mu, grid, beam, u, np.array([2.0]))[:, 0]
    assert u[profile.argmax()] == pytest.approx(grid.axis(0)[grid.index(0, 80)] * beam.magnification, abs=1.0)
