"""Label maps: exact on the canonical grid, and never a label that no pixel had."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import affine_transform

from core.errors import UserError
from core.io.geometry import centred
from core.preprocess import LabelAugmenterConfig, LabelPreprocessConfig
from core.types import Sample

NAMES = ("lung", "heart", "bone")


def config(space=(16, 12), spacing=(2.0, 2.0), orientation="PL"):
    return LabelPreprocessConfig(
        space=space, spacing_mm=spacing, orientation=orientation, channels=len(NAMES), labels=NAMES
    )


def drawn(geometry, seed=0, top=3):
    labels = np.random.default_rng(seed).integers(0, top + 1, (1, *geometry.shape)).astype(np.float32)
    return Sample(modality="m", data=labels, geometry=geometry, meta={"path": "a.nii"})


@pytest.mark.parametrize(("space", "orientation"), [((16, 12), "PL"), ((5, 6, 7), "SPL")])
def test_labels_on_the_canonical_grid_come_back_identical(space, orientation):
    settings = config(space, (2.0,) * len(space), orientation)
    part, sample = settings.build(), drawn(settings.geometry)
    result = part.apply(sample)
    for label in range(1, len(NAMES) + 1):
        assert np.array_equal(result.data[label - 1] == 1, sample.data[0] == label)
    assert set(np.unique(result.data)) == {-1, 1}
    assert (result.data.max(0) == -1).any()
    restored = part.invert(result, sample.geometry)
    assert np.array_equal(restored.data, sample.data)
    assert restored.data.dtype == np.float32
    assert restored.geometry == sample.geometry
    assert restored.meta["units"] == "label"


def test_the_largest_channel_wins_and_nothing_is_0():
    part = config((1, 4), (1.0, 1.0)).build()
    scores = np.array([[-0.2, 0.1, 0.3, -1.0], [-0.1, 0.2, 0.2, -1.0], [-0.9, -0.3, 0.9, 0.01]], np.float32)
    restored = part.invert(Sample(modality="m", data=scores[:, None], meta={"canonical": True}))
    assert restored.data.tolist() == [[[0, 2, 3, 3]]]


@pytest.mark.parametrize("shape", [(40, 33), (7, 5), (16, 30)])
def test_resampling_takes_the_nearest_point(shape):
    """Against a search for the nearest pixel in mm; a tie may go either way, so shapes without ties are taken."""
    settings = config((16, 12), (2.0, 2.0))
    sample = drawn(centred(shape, (32 / shape[0], 24 / shape[1]), "PL"))
    result = settings.build().apply(sample)
    labels = np.where(result.data.max(0) > 0, result.data.argmax(0) + 1, 0)
    inverse = np.linalg.inv(sample.geometry.affine)
    for index in np.ndindex(16, 12):
        where = inverse @ result.geometry.affine @ [*index, 0, 1]
        near = where[:2]
        if np.abs(near - np.floor(near) - 0.5).min() < 1e-6:
            continue
        assert labels[index] == sample.data[0][tuple(np.rint(near).astype(int))]


def test_a_turned_map_comes_back():
    settings = config()
    source = settings.geometry
    affine = source.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (source.shape[0] - 1)
    affine[:3, 0] *= -1
    sample = drawn(replace(source, affine=affine))
    part = settings.build()
    result = part.apply(sample)
    assert np.array_equal(result.data[0] == 1, sample.data[0, ::-1] == 1)
    assert np.array_equal(part.invert(result, sample.geometry).data, sample.data)


@pytest.mark.parametrize("value", [1.5, -1, 4, 300])
def test_what_is_no_label_is_refused(value):
    settings = config()
    sample = drawn(settings.geometry)
    sample.data[0, 3, 4] = value
    with pytest.raises(UserError, match=r"a\.nii: holds .*lung, heart, bone.*set") as caught:
        settings.build().apply(sample)
    assert f"holds {value:g}," in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"channels": 4}, {"labels": ("a", "a", "b")}, {"resize": "area"}, {"units": "HU"}])
def test_a_config_that_would_mix_labels_is_refused(wrong):
    settings = config().model_dump()
    with pytest.raises(ValidationError):
        LabelPreprocessConfig(**{**settings, **wrong})


def test_views_hold_whole_labels_and_move_as_an_image_does():
    settings = config((24, 20), (2.0, 1.0))
    canonical = settings.build().apply(drawn(settings.geometry, top=2))
    augment = LabelAugmenterConfig(rotation_deg=20, scale=0.1, shift=0.1).build()
    for seed in range(5):
        view = augment.view(canonical, torch.Generator().manual_seed(seed))
        assert set(np.unique(view.data)) == {-1, 1}
        assert (view.data == 1).sum(0).max() == 1
        moved = np.linalg.inv(canonical.geometry.affine) @ view.geometry.affine
        offset = moved[:2, 3]
        expected = affine_transform(canonical.data[0], moved[:2, :2], offset=offset, order=0, cval=-1.0)
        assert np.array_equal(view.data[0], expected)
        assert not np.array_equal(view.data, canonical.data)
