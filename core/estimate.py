"""What a run costs at least: parameters, memory, latent cache and arithmetic. Nothing is allocated.

Parts are built on torch's meta device, so that even the shapes of the papers are counted exactly in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from core.contract.build import build_part
from core.contract.modality import PartConfig
from core.errors import UserError
from core.types import Batch, Conditioning, DataSpec, LatentSpec, Prompt

BYTES_TRAINED = 4 + 4 + 8 + 4  # weight, gradient, two moments of Adam, EMA copy; all float32
BYTES_FROZEN = 4
NOT_COUNTABLE = (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError, OSError, UserError)


@dataclass(frozen=True)
class Size:
    """Parameters of a weight set; ``trainable`` without those that the part itself keeps frozen."""

    total: int
    trainable: int


def build_on_meta(config: PartConfig, key: str, owners: Sequence[str] = ()) -> Any:
    """The part with shapes but no memory; errors as those of `build_part`."""
    import torch

    with torch.device("meta"):
        return build_part(config, key, owners)


def size_of(part: Any) -> Size:
    """Parameters of a built part, shared ones once."""
    parameters = list(part.parameters())
    counts = [(weight.numel(), weight.requires_grad) for weight in parameters]
    return Size(sum(count for count, _ in counts), sum(count for count, trainable in counts if trainable))


def memory_bytes(trained: Mapping[str, Size], frozen: Mapping[str, Size]) -> int:
    """Bytes of weights and optimiser, without activations."""
    moving = sum(size.trainable for size in trained.values())
    still = sum(size.total for size in [*trained.values(), *frozen.values()]) - moving
    return moving * BYTES_TRAINED + still * BYTES_FROZEN


def cache_bytes(spec: LatentSpec, num_samples: int) -> int:
    """Bytes of the latent cache: mean and log-variance in float32 (METHOD E7)."""
    return num_samples * spec.channels * prod(spec.space) * 2 * 4


def empty_batch(modality: str, spec: DataSpec) -> Batch:
    """A batch of one sample with shapes only."""
    import torch

    with torch.device("meta"):
        if spec.kind == "tokens":
            mask = torch.ones(1, *spec.space, dtype=torch.bool)
            return Batch(modality=modality, data=torch.zeros(1, *spec.space, dtype=torch.int64), mask=mask)
        return Batch(modality=modality, data=torch.zeros(1, spec.channels, *spec.space))


def prompt_on_meta(encoder: Any, batch: Batch) -> Prompt:
    """The shapes of a prompt."""
    import torch

    with torch.no_grad(), torch.device("meta"):
        return encoder(batch)


def denoiser_flops(denoiser: Any, latent: LatentSpec, prompt: Prompt) -> int:
    """Floating-point operations of one forward pass of one sample."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    conditioning = Conditioning(prompt=prompt.tokens, prompt_mask=prompt.mask, pooled=prompt.pooled)
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        denoiser(torch.zeros(1, latent.channels, *latent.space), torch.zeros(1), conditioning)
    return counter.get_total_flops()


def measured_rate(device: str = "auto") -> float:
    """Floating-point operations per second of float32 matrix products on a device, the best of a few (0.1 s).

    `UserError` where the device cannot be used.
    """
    import torch

    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    side = 1024 if (automatic if device == "auto" else device) == "cpu" else 4096
    try:
        matrix = torch.ones(side, side, device=automatic if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{device}' cannot be used: {error}; choose auto, cpu, cuda or mps") from None
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        # Reading one number back waits for the device.
        (matrix @ matrix)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
