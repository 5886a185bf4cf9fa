"""Who takes part in joint sampling, and who listens to whom (METHOD E16, F1, F4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from core.contract.modality import Denoiser
from core.errors import UserError, unknown_name
from core.guide.context_encoder import Environment
from core.types import Conditioning, Context

Couple = Mapping[str, Collection[str]]


class Listening(NamedTuple):
    """Whether ``receiver`` gains from listening to ``sender``, decided on validation studies (METHOD F4)."""

    receiver: str
    sender: str
    helps: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """A modality to generate. ``prompted`` and ``null`` are its two guidance halves, ``scale`` how far they part (E6).

    ``environment`` tells the others of it; without one it tells nothing. ``steps``: fewer than the sampler's.
    """

    denoiser: Denoiser
    prompted: Conditioning
    null: Conditioning
    scale: float = 1.0
    environment: Environment | None = None
    steps: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """A clean partner: a scaled latent ``batch channel *space`` that is known; ``present`` bool ``batch``, or all."""

    latent: Tensor
    environment: Environment
    present: Tensor | None = None

    def told(self) -> Context:
        """What it tells at every step (METHOD F3); f stands for it where it is not present (METHOD E12)."""
        clean = torch.ones(len(self.latent), dtype=torch.bool, device=self.latent.device)
        level = torch.full((len(clean),), torch.inf, device=clean.device)
        return self.environment(self.latent, level, clean, None if self.present is None else ~self.present)


def listeners(outputs: Mapping[str, Output], given: Mapping[str, Given], couple: Couple | None) -> dict[str, list[str]]:
    """The partners that each output listens to, in the order of the flows: all of them, or those of ``couple``.

    Nobody listens to itself, nor to an output that tells nothing (METHOD F1). Raises `UserError` for names that do
    not take part, and for one that is both given and generated.
    """
    senders = [*(name for name, output in outputs.items() if output.environment is not None), *given]
    _refuse_strangers(outputs, given, couple or {})
    chosen = {name: senders if couple is None else couple.get(name, ()) for name in outputs}
    return {name: [one for one in senders if one in chosen[name] and one != name] for name in outputs}


def _refuse_strangers(outputs: Mapping[str, Output], given: Mapping[str, Given], couple: Couple) -> None:
    twice = set(outputs) & set(given)
    if twice:
        raise UserError(f"'{min(twice)}' is both given and to be generated; leave it out of one of them")
    for listener, partners in couple.items():
        if listener not in outputs:
            raise unknown_name("output", listener, outputs)
        for partner in partners:
            if partner not in outputs and partner not in given:
                raise unknown_name(f"partner of '{listener}'", partner, [*outputs, *given])
