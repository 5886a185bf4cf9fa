"""N4 takes out a field that was put in, and moves no point; MRI contrasts that were registered stay registered."""

import sys

import numpy as np
import pytest

from core.errors import UserError
from core.io.geometry import centred
from core.preprocess import PercentileNormalizationConfig
from core.preprocess.intensity import N4Config, remove_bias_field
from core.types import Sample

pytest.importorskip("SimpleITK")
FAST = N4Config(iterations=(30, 30))


def phantom(shape=(96, 80)):
    """Two tissues and air, and the field of a coil at one side."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    tissue = np.where(radius < 0.8, np.where(radius < 0.45, 700.0, 400.0), 0.0)
    noise = np.random.default_rng(0).normal(0, 4, shape) * (tissue > 0)
    return (tissue + noise).astype(np.float32), np.exp(0.35 * axes[0] - 0.2 * axes[1] ** 2), tissue


def spread(data, tissue):
    """Coefficient of variation within a tissue, the larger of both."""
    return max(data[tissue == item].std() / data[tissue == item].mean() for item in (400, 700))


@pytest.mark.parametrize("shape", [(96, 80), (24, 40, 36)])
def test_a_field_is_taken_out(shape):
    clean, field, tissue = phantom(shape)
    result = remove_bias_field((clean * field).astype(np.float32), (2.0,) * len(shape), FAST)
    assert result.shape == shape
    assert spread(clean * field, tissue) > 0.1
    assert spread(result, tissue) < 0.03
    assert (result[tissue == 0] == 0).all()


def test_the_same_image_gives_the_same_numbers():
    clean, field, _ = phantom()
    first, second = (remove_bias_field(clean * field, (2.0, 1.5), FAST) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_a_constant_image_stays(value):
    flat = np.full((40, 40), value, np.float32)
    assert np.array_equal(remove_bias_field(flat, (1.0, 1.0), FAST), flat)


CONFIG = PercentileNormalizationConfig(space=(48, 48), spacing_mm=(4.0, 4.0), orientation="PL", bias=FAST)


def sample(data, name="mri_a"):
    geometry = centred(data.shape, (2.0, 1.5), "RA")
    return Sample(modality=name, data=data[None].astype(np.float32), geometry=geometry, meta={"path": "a.nii"})


def test_the_preprocessor_gives_the_corrected_image_back():
    clean, field, tissue = phantom()
    original = sample(clean * field)
    part = CONFIG.model_copy(update={"space": (96, 80), "spacing_mm": (2.0, 1.5), "orientation": "RA"}).build()
    before = original.data.copy()
    restored = part.invert(part.apply(original), original.geometry)
    assert np.array_equal(original.data, before)
    assert spread(restored.data[0], tissue) < 0.03
    result = part.apply(original)
    assert part.apply(result) is result


def test_without_a_bias_config_nothing_is_corrected():
    clean, field, _ = phantom()
    part = PercentileNormalizationConfig(space=(96, 80), spacing_mm=(2.0, 1.5), orientation="RA").build()
    restored = part.invert(part.apply(sample(clean * field)), sample(clean).geometry).data[0]
    assert np.corrcoef(restored.ravel(), (clean * field).ravel())[0, 1] > 0.999


@pytest.mark.parametrize("bias", [None, FAST], ids=["as it is", "corrected"])
def test_registered_contrasts_stay_registered(bias):
    """One grid in, one grid out; a mark at one place of both lies at that place of both afterwards."""
    clean, field, tissue = phantom()
    first, second = clean * field, np.where(tissue > 0, 1100 - clean, 0) / field
    for data in (first, second):
        data[60:70, 20:30] = 3000
    part = CONFIG.model_copy(update={"bias": bias, "lower": 0, "upper": 100}).build()
    item, other = part.apply(sample(first)), part.apply(sample(second, "mri_b"))
    assert item.geometry == other.geometry
    assert item.geometry.orientation == "PL"
    marks = [np.argwhere(result.data[0] > 0.2).mean(0) for result in (item, other)]
    assert np.abs(marks[0] - marks[1]).max() < 0.6  # its edge is a pixel that each contrast fills in part
    expected = sample(first).geometry.affine @ [64.5, 24.5, 0, 1]
    assert np.abs(item.geometry.affine @ [*marks[0], 0, 1] - expected).max() < 2.0  # half a pixel
    back = [part.invert(result, sample(first).geometry) for result in (item, other)]
    assert back[0].geometry == back[1].geometry == sample(first).geometry


def test_nan_is_named_before_anything_is_estimated():
    clean, _, _ = phantom()
    clean[3, 3] = np.nan
    with pytest.raises(UserError, match=r"a\.nii: .*NaN"):
        CONFIG.build().apply(sample(clean))


def test_without_simpleitk_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(UserError, match=r"pip install 'medweave\[bias\]'") as caught:
        CONFIG.build()
    assert "\n" not in str(caught.value)
    CONFIG.model_copy(update={"bias": None}).build()
