"""Random streams derived from a seed and a purpose, independent of when and where they are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, e.g. ``derived_seed(0, "diffuse", "noise", step)``."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def make_generator(seed: int, *purpose: str | int) -> Generator:
    """Return a CPU generator for one purpose; drawing on the CPU makes runs agree across devices."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


@contextmanager
def forked_rng(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's global random state inside the block, for new networks, and restore it afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, *purpose))
        yield
