"""Pictures of every kind: colour survives, augmentation preserves the hue, and no position in the patient is claimed."""

import colorsys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from core.api import Provenance
from core.guide.positions import known_axes
from plugins.photo.modality import MODALITIES

PHOTO = MODALITIES[0]
PARTS = PHOTO.parts("tiny")
PROVENANCE = Provenance(model="m", recipe="r", seed=0)


def saved(path, mode="RGB", size=(40, 30)):
    rng = np.random.default_rng(0)
    shape = (size[1], size[0]) + ((3,) if mode == "RGB" else ())
    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    return path


def test_they_differ_in_name_and_title_only():
    assert len({modality.title for modality in MODALITIES}) == len(MODALITIES) == 7
    for modality in MODALITIES:
        for preset in modality.presets:
            parts, first = modality.parts(preset), PHOTO.parts(preset)
            assert parts.reader == first.reader.model_copy(update={"modality": modality.name})
            assert replace(parts, reader=first.reader, data=first.data) == first


def test_a_grey_picture_has_three_equal_channels(tmp_path):
    sample = PARTS.reader.build().read(saved(tmp_path / "a.png", "L"))
    assert sample.data.shape == (3, 30, 40)
    assert (sample.data == sample.data[:1]).all()


def test_colours_come_back_after_writing(tmp_path):
    reader, preprocess = PARTS.reader.build(), PARTS.preprocess.build()
    sample = reader.read(saved(tmp_path / "a.png", size=(64, 64)))
    restored = preprocess.invert(preprocess.apply(sample), sample.geometry)
    PARTS.writer.build().write(restored, tmp_path / "b.png", PROVENANCE)
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert np.array_equal(first, second)
    assert reader.read(tmp_path / "b.png").geometry == sample.geometry


def test_a_picture_lies_nowhere_in_the_patient(tmp_path):
    sample = PARTS.reader.build().read(saved(tmp_path / "a.png"))
    canonical = PARTS.preprocess.build().apply(sample)
    for geometry in (sample.geometry, canonical.geometry, PARTS.data.default_geometry):
        assert geometry.source_header["unplaced"] is True
        assert known_axes(geometry) == (False, False, False)
    assert sample.meta["spacing_known"] is False


@pytest.mark.parametrize("colour", [(0.8, 0.4, 0.2), (0.3, 0.25, 0.6), (0.5, 0.7, 0.45)])
def test_views_keep_the_hue(tmp_path, colour):
    """A coloured patch in the middle; noise averages out, and no channel reaches the end of its range."""
    data = np.ones((3, 64, 64), np.float32) * np.array(colour, np.float32)[:, None, None] * 2 - 1
    geometry = PARTS.data.default_geometry
    from core.api import Sample

    sample = Sample(modality=PHOTO.name, data=data, geometry=geometry, meta={"canonical": True})
    augment, hue = PARTS.augment.build(), colorsys.rgb_to_hsv(*colour)[0]
    seen = set()
    for seed in range(20):
        view = augment.view(sample, torch.Generator().manual_seed(seed))
        middle = (view.data[:, 20:44, 20:44].mean((1, 2)) + 1) / 2
        assert abs(colorsys.rgb_to_hsv(*middle)[0] - hue) < 0.006
        seen.add(round(float(middle.mean()), 3))
    assert len(seen) > 10
