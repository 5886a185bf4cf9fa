"""Prompts of several modalities as the conditioning of a denoiser (method E4, E6, E6b)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config.prompt import PromptForm
from core.contract.modality import PromptEncoder, token_width
from core.errors import UserError
from core.types import Batch, Conditioning, Prompt


class PromptAssembly(nn.Module):
    """Prompts to the conditioning of the denoiser that it is trained with.

    ``width`` of the denoiser's prompt tokens, which is that of the shared space; ``sources`` are the modalities that
    prompt it in training, each with the width of its tokens. ``form``: see `core.config.recipe.PromptChoice`.

    Prompt encoders are frozen, and alignment trains their pooled vectors alone. So the tokens of each source are read
    through a layer that is trained here, and pooled vectors, which every modality has in one space, as they are. The
    null prompt is a learned token and a learned pooled vector.
    """

    def __init__(
        self, width: int, sources: Mapping[str, int], form: PromptForm = "pooled_and_neighbour_tokens"
    ) -> None:
        super().__init__()
        self.width, self.form = width, form
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        self.null_pooled = nn.Parameter(torch.zeros(width))
        self.readers = nn.ModuleDict()
        if form == "pooled_and_neighbour_tokens":
            self.readers.update({_key(name): _reader(features, width) for name, features in sources.items()})

    def forward(
        self,
        prompts: Mapping[str, Prompt],
        drop: Tensor,
        pooled_only: Tensor | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Conditioning:
        """Assemble ``prompts`` by modality; ``drop`` bool ``batch``: rows that get the null prompt (method E6).

        ``pooled_only`` bool ``batch``: rows that are conditioned on the pooled vectors alone, which is all that a
        modality without joint training contributes (method E6b). ``weights`` of prompts, by modality, 1 where left out;
        a prompt of weight 0 is left out.
        """
        shares = mixing_shares(prompts, weights)
        present = {name: prompts[name] for name in shares}
        sized = {name: token_sized(prompt.pooled) for name, prompt in present.items()}
        mixed = mix(sized, shares) if sized else self.null_pooled.expand(len(drop), -1)
        mixed = torch.where(drop[:, None], self.null_pooled.to(mixed.dtype), mixed)
        if self.form != "pooled_and_neighbour_tokens":
            token = mixed if sized else self.null.expand(len(drop), -1)
            single = torch.where(drop[:, None], self.null.to(token.dtype), token)
            return Conditioning(prompt=single[:, None], pooled=mixed)
        tokens, mask = self._tokens(present, sized, shares, len(drop), pooled_only)
        mask = mask & ~drop[:, None]
        mask[:, 0] = True
        return Conditioning(prompt=tokens, prompt_mask=mask, pooled=mixed)

    def _tokens(
        self,
        prompts: Mapping[str, Prompt],
        sized: Mapping[str, Tensor],
        shares: Mapping[str, float],
        rows: int,
        pooled_only: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return ``[null token, pooled vector and tokens of each prompt]`` ``batch length width``, and their mask."""
        always = torch.ones(rows, 1, dtype=torch.bool, device=self.null.device)
        tokens, mask = [self.null.expand(rows, 1, -1)], [always]
        for name, prompt in prompts.items():
            relative = shares[name] * len(prompts)  # 1 where all weigh the same
            tokens.append(sized[name][:, None] * relative)
            mask.append(always)
            if _key(name) in self.readers:  # of other modalities, tokens would be noise (method E6b)
                tokens.append(self.readers[_key(name)](prompt.tokens[:, 1:]) * relative)
                visible = prompt.mask[:, 1:]
                mask.append(visible if pooled_only is None else visible & ~pooled_only[:, None])
        return torch.cat([part.to(tokens[-1].dtype) for part in tokens], 1), torch.cat(mask, 1)


def _reader(features: int, width: int) -> nn.Module:
    """Return a trained layer from a frozen encoder's tokens, of any scale, to tokens of a denoiser."""
    return nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))


def _key(modality: str) -> str:
    """Return a module name: a modality may be called ``keys`` or ``training``, as attributes of a module are."""
    return f"from_{modality}"


def mixing_shares(names: Collection[str], weights: Mapping[str, float] | None = None) -> dict[str, float]:
    """Return the shares of prompts in the mixed vector, which sum to 1 (method E4); a weight of 0 leaves a prompt out.

    `UserError` for a weight below 0 or not finite.
    """
    given = {name: 1.0 if weights is None else weights.get(name, 1.0) for name in names}
    for name, weight in given.items():
        if not 0 <= weight < math.inf:
            raise UserError(f"the weight of prompt '{name}' is {weight}; give a number of at least 0")
    total = sum(given.values())
    return {name: weight / total for name, weight in given.items() if weight > 0}


def mix(pooled: Mapping[str, Tensor], shares: Mapping[str, float]) -> Tensor:
    """Return ``c = sum_m alpha_m h_m`` (method E4; MedCoDi-M Eq. 1), not normalised again; ``batch width``."""
    return torch.stack([pooled[name] * share for name, share in shares.items()]).sum(0)


def token_sized(pooled: Tensor) -> Tensor:
    """Return unit vectors ``batch width`` at the size of a normalised token, whose features have unit variance."""
    return pooled * pooled.shape[-1] ** 0.5


def centred(pooled: Tensor, mean: Tensor) -> Tensor:
    """Return pooled vectors without the mean of their modality, of unit norm (method E6b); ``batch width``.

    The means of two modalities lie far apart (the modality gap), and would tell a denoiser the modality of a prompt
    before its content.
    """
    return F.normalize(pooled - mean, dim=-1)


class CentredPromptEncoder(nn.Module):
    """A frozen prompt encoder as denoisers see it, in training and sampling alike: its mean is removed (method E6b).

    ``mean``: that of the pooled vectors of its modality in training; empty where the run has not aligned the modality.
    """

    mean: Tensor | None

    def __init__(self, encoder: PromptEncoder, mean: Collection[float]) -> None:
        super().__init__()
        self.encoder, self.width, self.token_width = encoder, encoder.width, token_width(encoder)
        self.register_buffer("mean", torch.tensor(list(mean)) if mean else None, persistent=False)

    def forward(self, batch: Batch) -> Prompt:
        """Encode a batch; tokens and mask are the encoder's."""
        prompt = self.encoder(batch)
        return prompt if self.mean is None else replace(prompt, pooled=centred(prompt.pooled, self.mean))
