import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from core.io.geometry import Orientation, centred, directions


def test_frontal_affine_is_documented():
    geometry = centred((3, 5), (2.0, 1.0), "IL")
    expected = [[0, -1, 0, 2], [0, 0, 1, 0], [-2, 0, 0, 2], [0, 0, 0, 1]]
    assert geometry.affine.tolist() == expected
    assert geometry.orientation == "IL"
    assert geometry.spacing_mm == (2.0, 1.0)


@pytest.mark.parametrize(
    ("shape", "orientation"), [((4, 7), "IP"), ((4, 7), "PL"), ((3, 4, 5), "SPL"), ((3, 4, 5), "RAS")]
)
def test_centre_of_the_field_is_the_origin(shape, orientation):
    geometry = centred(shape, tuple(0.5 + i for i in range(len(shape))), orientation)
    middle = np.zeros(4)
    middle[: len(shape)] = (np.array(shape) - 1) / 2
    middle[3] = 1
    assert np.allclose(geometry.affine @ middle, [0, 0, 0, 1])
    assert geometry.orientation == orientation
    if len(shape) == 2:
        assert np.isclose(np.linalg.norm(geometry.affine[:3, 2]), 1)
        assert np.linalg.det(geometry.affine[:3, :3]) > 0


@pytest.mark.parametrize("wrong", ["", "R", "RL", "RAX", "ras", "RASL", "RRA"])
def test_orientation_letters_are_checked(wrong):
    with pytest.raises(ValidationError, match="2 or 3 letters"):
        TypeAdapter(Orientation).validate_python(wrong)
    with pytest.raises(ValueError, match="2 or 3 letters"):
        directions(wrong)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="differ in length"):
        centred((3, 4), (1.0,), "IL")
