"""Which prompts a flow gets while it learns to listen (METHOD E6c)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Generator, Tensor

from core.diffuse.objective import draw_subset


def guide_sources(target: str, partners: Collection[str], available: Sequence[str]) -> tuple[str, ...]:
    """The modalities that may prompt ``target``: neither itself nor one of its partners (METHOD E6c).

    A prompt from a partner would already say what the partner could tell, and the coupling would learn nothing.
    """
    return tuple(name for name in available if name != target and name not in partners)


def draw_guide_prompt(
    sources: Sequence[str], batch: int, generator: Generator, null: float
) -> tuple[tuple[str, ...], Tensor]:
    """A drawn subset of ``sources`` and the rows (bool ``batch``) that get the null prompt instead (METHOD E6c).

    Each row is null with probability ``null``, and all are where no source is left.
    """
    if not sources:
        return (), torch.ones(batch, dtype=torch.bool)
    subset = draw_subset(sources, generator)
    return subset, torch.rand(batch, generator=generator) < null
