"""Random streams that depend on what they are for, not on when or where they are drawn."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derived_seed(0, "diffuse", "noise", step)``."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *purpose: str | int) -> Generator:
    """A CPU generator of its own for one purpose."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, *purpose))
