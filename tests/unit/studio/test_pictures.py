"""What the page draws: original units, sides, windows."""

import base64

import numpy as np
import pytest

from core.io import centred
from core.preprocess import LabelPreprocessConfig
from core.studio.pictures import picture_of, preview, volume_of
from core.types import DataSpec, Sample


def test_a_slice_has_its_units_sides_and_proportions():
    spec = DataSpec(
        kind="grid", space=(4, 6), units="HU", value_range=(-1000, 1000),
        default_geometry=centred((4, 6), (3.0, 2.0), "PL"),
    )  # fmt: skip
    canonical = np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, 4, 6)
    volume = volume_of(canonical, spec)
    assert volume.shape == (1, 4, 6)
    assert (volume.min(), volume.max()) == (-1000, 1000)
    picture = picture_of(volume, spec, {"soft tissue": (40, 400)})
    assert picture.aspect == 1.5
    assert picture.edges == {"top": "A", "bottom": "P", "left": "R", "right": "L"}
    assert picture.windows["soft tissue"] == (40, 400)
    assert picture.windows["all"] == (0, 2000)


def test_a_volume_keeps_its_slices_and_shows_the_middle_one():
    spec = DataSpec(kind="grid", space=(3, 2, 2), value_range=(0, 100))
    canonical = np.stack([np.full((2, 2), value, np.float32) for value in (-1, 0, 1)])[None]
    volume = volume_of(canonical, spec)
    assert volume[:, 0, 0].tolist() == [0, 50, 100]
    assert picture_of(volume, spec).shape == (3, 2, 2)
    small = preview(canonical, spec)
    assert small["picture"]["shape"] == (1, 2, 2)
    assert base64.b64decode(small["bytes"]) == bytes([128] * 4)
    assert small["low"] + 128 * small["step"] == pytest.approx(50, abs=0.2)


def test_a_preview_of_a_large_image_is_small_and_keeps_its_proportions():
    geometry = centred((300, 500), (2.0, 1.0), "IL")
    spec = DataSpec(kind="grid", space=(300, 500), default_geometry=geometry)
    small = preview(np.zeros((1, 300, 500), np.float32), spec)
    assert small["picture"]["shape"] == (1, 75, 125)
    assert small["picture"]["aspect"] == 2
    assert len(base64.b64decode(small["bytes"])) == 75 * 125


def test_colours_and_labels():
    colour = DataSpec(kind="grid", space=(2, 2), channels=3)
    canonical = np.zeros((3, 2, 2), np.float32)
    canonical[0] = 1
    volume = volume_of(canonical, colour)
    assert volume[0, 0, 0].tolist() == [255, 127.5, 127.5]
    assert picture_of(volume, colour).colour
    small = preview(canonical, colour)
    assert small["picture"]["colour"]
    assert list(base64.b64decode(small["bytes"])[:3]) == [255, 128, 128]


def test_labels_are_those_of_the_file():
    """As `LabelPreprocess` has them: a channel for each label but that of nothing."""
    config = LabelPreprocessConfig(
        space=(2, 2), spacing_mm=(1.0, 1.0), orientation="IL", labels=("lung", "heart"), channels=2
    )
    original = np.array([[[0.0, 1.0], [2.0, 2.0]]], np.float32)
    canonical = config.build().apply(Sample(modality="mask", data=original, geometry=centred((2, 2), (1.0, 1.0), "IL")))
    assert np.array_equal(volume_of(np.asarray(canonical.data), config.spec), original)


def test_a_photograph_has_no_sides():
    spec = DataSpec(
        kind="grid", space=(2, 2), default_geometry=centred((2, 2), (1.0, 1.0), "IL", unplaced=True)
    )  # fmt: skip
    assert picture_of(np.zeros((1, 2, 2), np.float32), spec).edges == {}


@pytest.mark.parametrize("constant", [-1.0, 1.0])
def test_a_constant_image_has_a_width(constant):
    spec = DataSpec(kind="grid", space=(2, 2), value_range=(3, 3))
    picture = picture_of(volume_of(np.full((1, 2, 2), constant, np.float32), spec), spec)
    assert picture.windows["all"][1] > 0
