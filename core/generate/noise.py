"""Noise of single samples: the same whatever else is in the batch (METHOD F6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.engine.rng import stream


def sample_noise(seed: int, indices: Sequence[int], flow: str, step: int | str, shape: Sequence[int]) -> Tensor:
    """Gaussian noise ``batch *shape``; that of sample ``i`` depends on (seed, i, flow, step) alone (METHOD F6).

    Drawn in float32 on the CPU, so that one seed is one noise on every device.
    """
    rows = [torch.randn(*shape, generator=stream(seed, "generate", index, flow, step)) for index in indices]
    return torch.stack(rows)
