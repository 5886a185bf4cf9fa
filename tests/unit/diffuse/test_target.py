"""What a denoiser may be prompted with."""

import pytest
import torch

from core.diffuse.train import Target


def target(*encoders):
    latents = torch.zeros(1, 4)
    return Target(name="ct", places=[0], latents=latents, assembly=None, encoders=dict.fromkeys(encoders))


def test_a_target_is_not_prompted_by_its_own_embedding():
    """It would be told what it is to make."""
    assert target("text", "mri").name == "ct"
    with pytest.raises(ValueError, match="'ct' would be prompted by its own embedding"):
        target("text", "ct")
