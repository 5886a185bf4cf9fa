"""Guided adaptation: what stands beside a partner's latent, and for it where the partner is absent (METHOD E12)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from core.errors import UserError
from core.types import Prompt


class Adaptation(nn.Module):
    """``f_B = F_emb(phi_s(z_B))`` (METHOD E12; MedM2G Eq. 5).

    ``phi_s``: ``num_parameters`` context parameters, drawn at random from prompt tokens of modality B (`draw_from`)
    and trained from there on. ``F_emb``: an embedding layer from ``prompt_width`` to ``width``.
    """

    def __init__(self, num_parameters: int, prompt_width: int, width: int) -> None:
        super().__init__()
        self.phi_s = nn.Parameter(torch.randn(num_parameters, prompt_width) * prompt_width**-0.5)
        self.F_emb = nn.Linear(prompt_width, width)

    def forward(self) -> Tensor:
        """f_B, ``length width``: the same for every sample."""
        return self.F_emb(self.phi_s)

    def draw_from(self, prompt: Prompt, generator: Generator) -> None:
        """Start the context parameters at prompt tokens of the modality (METHOD E12)."""
        with torch.no_grad():
            self.phi_s.copy_(draw_parameters(prompt, len(self.phi_s), generator))


def draw_parameters(prompt: Prompt, num: int, generator: Generator) -> Tensor:
    """``num`` of the tokens of a batch of prompts, ``num width``; never a null or masked token (METHOD E12).

    No token twice unless there are too few. Raises `UserError` where the prompts hold no token but the null token.
    """
    counts = prompt.mask.clone()
    counts[:, 0] = False
    tokens = prompt.tokens[counts].detach()
    if not len(tokens):
        raise UserError("guided adaptation: these prompts hold no token but the null token; give other studies")
    rounds = -(-num // len(tokens))
    order = torch.cat([torch.randperm(len(tokens), generator=generator) for _ in range(rounds)])
    return tokens[order[:num].to(tokens.device)]
