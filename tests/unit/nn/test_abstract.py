"""A base class that lacks what its subclasses bring cannot be made at all."""

import inspect

import pytest
from torch import nn

from core.nn.autoencoders.kl import GridAutoencoder, PlaneAutoencoder, VolumeAutoencoder
from core.nn.denoisers.sites import SitedDenoiser
from core.nn.denoisers.unet0d import VectorDenoiser
from core.nn.denoisers.unet2d import PlaneDenoiser
from core.nn.denoisers.unet3d import VolumeDenoiser
from core.preprocess import GridConfig, PercentileNormalizationConfig, WindowNormalizationConfig
from core.preprocess.grid import GridPreprocess

GRID = {"space": (8, 8), "spacing_mm": (1.0, 1.0), "orientation": "IL"}


@pytest.mark.parametrize(
    ("make", "missing"),
    [
        (lambda: GridAutoencoder(nn.Identity(), None), "encode, reconstruct"),
        (lambda: SitedDenoiser(nn.Identity(), (), channels=1, space=(), prompt_width=1), "predict"),
        (lambda: GridConfig(**GRID), "value_bounds"),
        (lambda: GridPreprocess(None, 0.0), "bounds"),
    ],
)
def test_a_base_class_cannot_be_made(make, missing):
    with pytest.raises(TypeError, match="abstract") as caught:
        make()
    assert missing in str(caught.value).replace("'", "")


def test_the_stock_parts_lack_nothing():
    parts = (PlaneAutoencoder, VolumeAutoencoder, PlaneDenoiser, VolumeDenoiser, VectorDenoiser)
    for made in (*parts, PercentileNormalizationConfig, WindowNormalizationConfig):
        assert not inspect.isabstract(made), made
