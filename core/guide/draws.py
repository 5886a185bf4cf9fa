"""What a step of phase ``guide`` draws: which flows take part, at which levels, and who reads whom (method F3, F4, F9).

All draws are for the whole batch, from one generator on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Generator, Tensor

from core.config.recipe import GuideChoice

DrawLevels = Callable[[int, Generator], Tensor]  # log-SNR ``batch``
JOINS = 0.15  # probability that a further modality prompts too
READS_ALL = 0.5  # of the studies of a flow that reads partners; in the others it reads a random subset


def draw_prompting(prompted: Mapping[str, int], generator: Generator, joins_with: float = JOINS) -> tuple[str, ...]:
    """Draw which modalities of a whole study prompt in a step, in their order (method F9).

    ``prompted``: how many flows each modality can prompt. One is drawn in proportion to it, and each other joins with
    the probability ``joins_with``. None where none can prompt.
    """
    able = [name for name, num in prompted.items() if num]
    first, joins = torch.rand((), generator=generator), torch.rand(len(prompted), generator=generator)
    if not able:
        return ()
    shares = torch.tensor([float(prompted[name]) for name in able]).cumsum(0)
    chosen = able[int((shares > first * shares[-1]).nonzero()[0])]
    return tuple(name for name, join in zip(able, joins, strict=False) if name == chosen or join < joins_with)


def hide_prompting(read: Tensor, names: Sequence[str], prompting: Collection[str], rows: Tensor) -> Tensor:
    """Return who reads whom, bool ``receiver sender batch``, without modalities that prompt (method F9).

    ``read`` as of `draw_readers`, of the flows ``names``. In ``rows`` (bool ``batch``) the modalities ``prompting`` are
    prompts, so that no flow reads them as partners: else the coupling would only learn what the prompt says anyway.
    """
    partner = torch.tensor([name not in prompting for name in names])
    return read & (partner[None, :, None] | ~rows)


def without_prompting_readers(read: Tensor, names: Sequence[str], prompting: Collection[str], rows: Tensor) -> Tensor:
    """Return who reads whom, bool ``receiver sender batch``, where modalities that prompt read nobody (method F9).

    For steps whose partners are estimates: these are made with the prompt, and would show it to its own modality.
    """
    others = torch.tensor([name not in prompting for name in names])
    return read & (others[:, None, None] | ~rows)


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
