"""What a denoiser may be prompted with."""

import pytest
import torch

from core.diffuse.train import Target


def target(*encoders):
    latents = torch.zeros(1, 4)
    return Target(name="ct", indices=[0], latents=latents, assembly=None, encoders=dict.fromkeys(encoders))


def test_a_target_is_not_prompted_by_its_embedding():
    """It would be conditioned on what it is to generate."""
    assert target("text", "mri").name == "ct"
    with pytest.raises(ValueError, match="'ct' would be prompted by its embedding"):
        target("text", "ct")
