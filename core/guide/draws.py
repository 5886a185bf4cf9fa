"""What a step of phase ``guide`` draws: which flows take part, at which levels, and who reads whom (method F3, F4, F9).

All draws are for the whole batch, from one generator on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor

from core.config.recipe import GuideChoice

DrawLevels = Callable[[int, Generator], Tensor]  # log-SNR ``batch``
ALL_TAKE_PART = 0.3  # of the steps on whole studies; in the others some modalities are left out, and may prompt
READS_ALL = 0.5  # of the studies of a flow that reads partners; in the others it reads a random subset


def draw_participants(
    names: Sequence[str], generator: Generator, prompted: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Draw which modalities of a whole study are denoised together, in their order (method F9).

    In a share `ALL_TAKE_PART` of the steps all of them, as joint generation has them. Otherwise one modality is left
    out, so that it may prompt, and with it some of the others: two at least remain. ``prompted``: how many of the
    others each modality prompts; one is left out in proportion to it, all alike where it is left out or empty.
    """
    everyone, first = torch.rand(2, generator=generator).tolist()
    order = torch.rand(len(names), generator=generator).argsort().tolist()
    size = 2 + int(torch.randint(0, max(len(names) - 2, 1), (1,), generator=generator))
    if len(names) < 3 or everyone < ALL_TAKE_PART:
        return tuple(names)
    weights = torch.tensor([float((prompted or {}).get(name, 0)) for name in names])
    weights = weights if weights.any() else torch.ones(len(names))
    prompting = int((weights.cumsum(0) > first * weights.sum()).nonzero()[0])
    chosen = set([row for row in order if row != prompting][:size])
    return tuple(name for row, name in enumerate(names) if row in chosen)


def draw_study_levels(
    num: int, batch: int, generator: Generator, choice: GuideChoice, draw_levels: DrawLevels
) -> list[tuple[Tensor, Tensor]]:
    """Draw log-SNR (float32 ``batch``) and clean flag (bool ``batch``) of each of ``num`` flows (method F3).

    One level for all flows of a study, or with ``levels = "independent"`` one for each in a share of the studies. With
    probability ``clean`` a random non-empty subset of the flows is clean, never all: these are given, and the others
    are to be generated from them.
    """
    levels = torch.stack([draw_levels(batch, generator) for _ in range(num)])
    apart, clean = torch.rand(2, batch, generator=generator)
    independent = apart < (choice.independent if choice.levels == "independent" else 0.0)
    levels = torch.where(independent, levels, levels[0])
    given = draw_subsets(num, batch, generator, most=num - 1) & (clean < choice.clean)
    return list(zip(levels, given, strict=True))


def draw_subsets(num: int, batch: int, generator: Generator, most: int) -> Tensor:
    """Draw a non-empty subset of ``num`` for each study: its size is uniform from 1 to ``most``, then its members.

    Bool ``num batch``.
    """
    size = torch.randint(1, max(most, 1) + 1, (batch,), generator=generator)
    rank = torch.rand(num, batch, generator=generator).argsort(0).argsort(0)
    return rank < size.clamp(max=most)


def draw_readers(num: int, batch: int, generator: Generator, partner_drop: float) -> Tensor:
    """Draw which partners each flow reads: bool ``receiver sender batch``, false on the diagonal (method F4, F8).

    With probability ``partner_drop`` a flow reads none: this trains the branch that context guidance starts from.
    Otherwise it reads all of them in half of the studies, and in the other half a random non-empty subset.
    """
    rows = []
    for receiver in range(num):
        alone, whole = torch.rand(2, batch, generator=generator)
        some = draw_subsets(num - 1, batch, generator, most=num - 1) | (whole < READS_ALL)
        read = some & (alone >= partner_drop)
        itself = torch.zeros(1, batch, dtype=torch.bool)
        rows.append(torch.cat([read[:receiver], itself, read[receiver:]]))
    return torch.stack(rows)
