import numpy as np
import pytest

from core.io import centred
from core.types import Geometry


def edges(geometry):
    """World positions of the outer corners of the outer pixels, which reach half a pixel beyond their centres."""
    count = len(geometry.shape)
    low, high = np.full(count, -0.5), np.array(geometry.shape) - 0.5
    return [geometry.affine[:3, :count] @ corner + geometry.affine[:3, 3] for corner in (low, high)]


@pytest.mark.parametrize(
    ("shape", "to"), [((8, 6), (4, 3)), ((8, 6), (16, 18)), ((8, 6), (1, 1)), ((5, 7, 9), (2, 14, 9)), ((1, 3), (4, 3))]
)
def test_resized_keeps_the_edges(shape, to):
    """A pixel is an area: the field of view stays, the centre of the first pixel moves by half the size difference."""
    rng = np.random.default_rng(0)
    turned = np.eye(4)
    turned[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag([0.5, 2.0, 3.0])
    turned[:3, 3] = rng.normal(size=3) * 50
    geometry = Geometry(affine=turned, shape=shape, source_header={"kept": 1})
    found = geometry.resized(to)
    assert found.shape == to
    assert found.source_header == {"kept": 1}
    for expected, corner in zip(edges(geometry), edges(found), strict=True):
        assert np.allclose(expected, corner, atol=1e-9)
    assert np.allclose(found.spacing_mm, np.array(geometry.spacing_mm) * np.array(shape) / np.array(to))


def test_resized_by_hand():
    """Four pixels of 1 mm from 0 to 3 as two of 2 mm: centres at 0.5 and 2.5."""
    found = Geometry(affine=np.eye(4), shape=(4, 4)).resized((2, 2))
    assert [float((found.affine @ [index, 0, 0, 1])[0]) for index in (0, 1)] == [0.5, 2.5]


def test_resized_to_its_own_shape_changes_nothing():
    geometry = centred((7, 5), (0.3, 0.7), "IL")
    assert geometry.resized((7, 5)) == geometry
