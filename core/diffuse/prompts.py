"""Prompts of several modalities as the conditioning of a denoiser (method E4, E6, E6b)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config.prompt import PromptForm
from core.contract.modality import PromptEncoder, token_width
from core.errors import UserError
from core.types import Batch, Conditioning, Prompt


class PromptAssembly(nn.Module):
    """Prompts to the conditioning of the denoiser that it is trained with.

    ``width`` and ``pooled_width``: of the denoiser's prompt tokens and of the pooled vector that it takes. ``sources``
    are the modalities that prompt it in training, each with the width of its tokens; ``shared_width`` is that of the
    shared space (``width`` where left out). ``form``: see `core.config.prompt.PromptChoice`. ``empty``: by source, the
    prompt of an empty input, ``1 length width``; where there are any, they are the null prompt in place of a learned
    token and pooled vector. ``typed``: a learned token and vector tell a denoiser of several modalities which one to
    generate, where a prompt of the study does not name it.

    Prompt encoders are frozen, and alignment trains their pooled vectors alone. So the tokens of each source are read
    through a layer that is trained here, and pooled vectors, which every modality has in one space, as they are.
    """

    def __init__(
        self,
        width: int,
        sources: Mapping[str, int],
        form: PromptForm = "pooled_and_neighbour_tokens",
        *,
        shared_width: int | None = None,
        pooled_width: int | None = None,
        empty: Mapping[str, Prompt] | None = None,
        typed: bool = False,
    ) -> None:
        super().__init__()
        shared = width if shared_width is None else shared_width
        pooled = shared if pooled_width is None else pooled_width
        self.form, self.empty = form, dict(empty or {})
        self.null = None if empty else nn.Parameter(torch.randn(width) * 0.02)
        self.null_pooled = None if empty else nn.Parameter(torch.zeros(pooled))
        self.type_token = nn.Parameter(torch.randn(width)) if typed else None
        self.type_pooled = nn.Parameter(torch.randn(pooled)) if typed else None
        self.to_pooled = _linear(shared, pooled)
        self.to_token = nn.Identity() if form == "tokens_pooled_size" else _linear(shared, width)
        self.readers = nn.ModuleDict()
        if form == "pooled_and_neighbour_tokens":
            self.readers.update({_key(name): _reader(features, width) for name, features in sources.items()})
        elif form == "tokens_pooled_size":
            # A pretrained denoiser reads the tokens of its encoders as they are.
            self.readers.update({_key(name): _linear(features, width) for name, features in sources.items()})

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
        null = self._null(list(shares), drop)
        if not shares:
            return self._typed(null)
        full = self._assembled({name: prompts[name] for name in shares}, shares, pooled_only)
        return self._typed(_rows_where(drop, null, full))

    def _null(self, names: Sequence[str], drop: Tensor) -> Conditioning:
        """Return the null prompt of as many rows as ``drop`` has: learned, or that of empty inputs (method E6)."""
        if self.null is not None and self.null_pooled is not None:
            pooled = self.null_pooled.expand(len(drop), -1)
            return Conditioning(prompt=self.null.expand(len(drop), 1, -1), pooled=pooled)
        chosen = [name for name in names if name in self.empty] or list(self.empty)
        prompts = {name: _expanded(self.empty[name], drop) for name in chosen}
        return self._assembled(prompts, mixing_shares(prompts), None)

    def _assembled(
        self, prompts: Mapping[str, Prompt], shares: Mapping[str, float], pooled_only: Tensor | None
    ) -> Conditioning:
        """Return the conditioning of every row's prompts in the form of the recipe."""
        sized = {name: token_sized(prompt.pooled) for name, prompt in prompts.items()}
        mixed = mix(sized, shares)
        if self.form in ("mixed_pooled", "pooled"):
            return Conditioning(prompt=self.to_token(mixed)[:, None], pooled=self.to_pooled(mixed))
        parts: list[tuple[Tensor, Tensor]] = [] if self.null is None else [self._first(mixed)]
        for name, prompt in prompts.items():
            relative = shares[name] * len(prompts)  # 1 where all weigh the same
            if self.form == "pooled_and_neighbour_tokens":
                parts.append((self.to_token(sized[name])[:, None] * relative, _always(mixed)))
            if _key(name) in self.readers:  # of other modalities, tokens would be noise (method E6b)
                parts.append(self._read(name, prompt, relative, pooled_only))
        tokens, masks = zip(*parts, strict=True)
        prompt_mask = torch.cat(masks, 1)
        return Conditioning(
            prompt=torch.cat([part.to(mixed.dtype) for part in tokens], 1),
            prompt_mask=prompt_mask,
            pooled=self.to_pooled(mixed),
        )

    def _first(self, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the learned null token, which is never masked, and its mask."""
        return cast(Tensor, self.null).expand(len(mixed), 1, -1), _always(mixed)

    def _read(self, name: str, prompt: Prompt, relative: float, pooled_only: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the tokens of a source as the denoiser reads them, and which are visible."""
        # Token 0 holds nothing of the input, except in networks that were trained with it.
        start = 0 if self.form == "tokens_pooled_size" else 1
        tokens, visible = self.readers[_key(name)](prompt.tokens[:, start:]) * relative, prompt.mask[:, start:]
        return tokens, visible if pooled_only is None else visible & ~pooled_only[:, None]

    def _typed(self, conditioning: Conditioning) -> Conditioning:
        """Return the conditioning with the modality to generate, where the denoiser generates several."""
        if self.type_token is None or self.type_pooled is None or conditioning.pooled is None:
            return conditioning
        token = self.type_token.to(conditioning.prompt.dtype).expand(len(conditioning.prompt), 1, -1)
        mask = conditioning.prompt_mask
        return Conditioning(
            prompt=torch.cat([conditioning.prompt, token], 1),
            prompt_mask=None if mask is None else F.pad(mask, (0, 1), value=True),
            pooled=conditioning.pooled + self.type_pooled,
        )


def _rows_where(drop: Tensor, null: Conditioning, full: Conditioning) -> Conditioning:
    """Return the rows of ``null`` where ``drop``, else those of ``full``; the shorter prompt is padded and masked."""
    length = max(null.prompt.shape[1], full.prompt.shape[1])
    tokens, masks = [], []
    for each in (null, full):
        missing = length - each.prompt.shape[1]
        mask = torch.ones_like(each.prompt[..., 0], dtype=torch.bool) if each.prompt_mask is None else each.prompt_mask
        tokens.append(F.pad(each.prompt, (0, 0, 0, missing)))
        masks.append(F.pad(mask, (0, missing)))
    assert null.pooled is not None and full.pooled is not None  # noqa: S101, PT018  # both were made here
    return Conditioning(
        prompt=torch.where(drop[:, None, None], tokens[0].to(tokens[1].dtype), tokens[1]),
        prompt_mask=None if length == 1 else torch.where(drop[:, None], *masks),
        pooled=torch.where(drop[:, None], null.pooled.to(full.pooled.dtype), full.pooled),
    )


def _expanded(prompt: Prompt, like: Tensor) -> Prompt:
    """Return a prompt of one row as one of as many rows as ``like`` has, on its device."""
    return Prompt(
        tokens=prompt.tokens.to(like.device).expand(len(like), -1, -1),
        pooled=prompt.pooled.to(like.device).expand(len(like), -1),
        mask=prompt.mask.to(like.device).expand(len(like), -1),
    )


def _always(like: Tensor) -> Tensor:
    """Return a mask bool ``batch 1`` that is true."""
    return torch.ones(len(like), 1, dtype=torch.bool, device=like.device)


def _linear(width_in: int, width_out: int) -> nn.Module:
    """Return a trained layer between two widths; none where they are equal."""
    return nn.Identity() if width_in == width_out else nn.Linear(width_in, width_out)


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
