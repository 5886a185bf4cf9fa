"""MedCoDi-M 3.1 step by step (resample to 0.139 mm, pad with zeros to a square, resize) against our one step."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import zoom

from core.io.geometry import centred
from core.preprocess import WindowNormalizationConfig
from core.types import Sample

SPACING_MM = 0.139  # MIMIC-CXR's usual, MedCoDi-M 3.1
CONFIG = WindowNormalizationConfig(
    space=(32, 32), spacing_mm=(10.0, 10.0), orientation="IL", low=0.0, high=1.0, projection=True
)


def picture(shape):
    """Smooth, brighter at one corner, never black: padding is seen."""
    rows, columns = np.meshgrid(*(np.linspace(0, 1, size) for size in shape), indexing="ij")
    return (0.4 + 0.3 * rows + 0.2 * np.sin(4 * columns)).astype(np.float32)


def step_by_step(data, spacing_mm):
    """As the paper says, with other means: spline zoom, zero padding, Pillow's averages."""
    if spacing_mm is not None:
        factors = [step / SPACING_MM for step in spacing_mm]
        data = zoom(data, factors, order=1, grid_mode=True, mode="nearest")
    side = max(data.shape)
    before = [(side - size) // 2 for size in data.shape]
    square = np.zeros((side, side))
    square[before[0] : before[0] + data.shape[0], before[1] : before[1] + data.shape[1]] = data
    return np.asarray(Image.fromarray(square.astype(np.float32)).resize((32, 32), Image.Resampling.BOX))


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((640, 512), (0.139, 0.139)),
        ((448, 352), (0.2, 0.2)),
        ((320, 512), (0.278, 0.139)),
        ((600, 150), (0.1, 0.4)),
        ((640, 512), None),
        ((250, 640), None),
    ],
    ids=str,
)
def test_the_same_picture(shape, spacing_mm):
    """Known spacing decides the shape in mm, with pixels that are not square too; unknown spacing, that in pixels."""
    data = picture(shape)
    geometry = centred(shape, spacing_mm or (1.0, 1.0), "IL", projection=True)
    result = CONFIG.build().apply(Sample(modality="m", data=data[None], geometry=geometry)).data[0]
    expected = step_by_step(data, spacing_mm) * 2 - 1
    # The paper's side is a whole number of pixels, ours exact: the edge of the padding moves by up to 5 % of a pixel.
    assert np.abs(result - expected).mean() < 0.02
    inside = np.abs(expected - np.roll(expected, 1, 0)) + np.abs(expected - np.roll(expected, 1, 1)) < 0.2
    assert np.abs(result - expected)[inside].max() < 0.05
    assert inside.mean() > 0.5


def test_the_padding_is_black_and_on_both_sides():
    geometry = centred((100, 50), (0.2, 0.2), "IL")
    result = (
        CONFIG.build().apply(Sample(modality="m", data=np.ones((1, 100, 50), np.float32), geometry=geometry)).data[0]
    )
    assert (result[:, :8] == -1).all()
    assert (result[:, 24:] == -1).all()
    assert np.allclose(result[:, 8:24], 1)


def test_pixels_that_are_not_square_become_so():
    """A circle in mm stays one: 40 rows of 0.4 mm beside 80 columns of 0.2 mm."""
    rows, columns = np.meshgrid((np.arange(40) - 19.5) * 0.4, (np.arange(80) - 39.5) * 0.2, indexing="ij")
    circle = (np.hypot(rows, columns) < 6).astype(np.float32)
    geometry = centred((40, 80), (0.4, 0.2), "IL")
    result = CONFIG.build().apply(Sample(modality="m", data=circle[None], geometry=geometry)).data[0]
    heights, widths = (result > 0).sum(0).max(), (result > 0).sum(1).max()
    assert abs(int(heights) - int(widths)) <= 1
